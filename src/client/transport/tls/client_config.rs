//! TLS: what is trusted and shown, read from files, and the handshake.
//!
//! The files are read for each new connection, so that a certificate that was renewed is used from
//! then on by a process that runs for months. Nothing here can leave a check out.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::errors::Refusal;
use crate::client::transport::credential_file;
use crate::config::TlsFiles;
use crate::error::{Error, Kind, Result};
use crate::mutex::Mutex;

/// What a server and this client prove to each other, as the files last said.
pub(in crate::client) struct Tls {
    files: TlsFiles,
    made: Mutex<Option<Made>>,
    seed: RandomState,
}

/// A configuration, and the hash of what it was made of. Kept, since it holds the sessions that a
/// later handshake resumes.
#[derive(Clone)]
struct Made {
    of: u64,
    config: Arc<ClientConfig>,
}

/// The files' bytes; None for a file that is not asked for.
#[derive(Hash)]
struct Contents {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Tls {
    pub(in crate::client) fn new(files: TlsFiles) -> Arc<Self> {
        Arc::new(Self {
            files,
            made: Mutex::default(),
            seed: RandomState::new(),
        })
    }

    /// The handshake with the server of this name, which its certificate must bear.
    pub(in crate::client) async fn handshake(
        self: &Arc<Self>,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let message = format!("redis_url names {host:?}, which no certificate can bear");
            Error::new(Kind::Config, message)
        })?;
        let own = Arc::clone(self);
        let config = tokio::task::spawn_blocking(move || own.config())
            .await
            .map_err(|error| Error::new(Kind::Unavailable, error.to_string()))??;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        shaken.map_err(|error| self.refusal(host).of_handshake(&error))
    }

    /// Says what an error in the handshake, or at the first words after it, means.
    pub(in crate::client) fn refusal<'a>(&'a self, host: &'a str) -> Refusal<'a> {
        Refusal {
            files: &self.files,
            host,
        }
    }

    /// The configuration for a new connection. While files are being replaced they may not fit each
    /// other: the one they last made serves on.
    fn config(&self) -> Result<Arc<ClientConfig>> {
        let before = self.made.lock().clone();
        match (self.renewed(before.as_ref()), before) {
            (Ok(made), _) => {
                *self.made.lock() = Some(made.clone());
                Ok(made.config)
            }
            (Err(_), Some(before)) => Ok(before.config),
            (Err(error), None) => Err(error),
        }
    }

    fn renewed(&self, before: Option<&Made>) -> Result<Made> {
        let contents = Contents {
            ca: read("redis_tls_ca_file", self.files.ca.as_deref())?,
            cert: read("redis_tls_cert_file", self.files.cert.as_deref())?,
            key: read("redis_tls_key_file", self.files.key.as_deref())?,
        };
        let of = self.seed.hash_one(&contents);
        match before {
            Some(before) if before.of == of => Ok(before.clone()),
            _ => Ok(Made {
                of,
                config: Arc::new(self.make(&contents)?),
            }),
        }
    }

    fn make(&self, contents: &Contents) -> Result<ClientConfig> {
        let roots = match &contents.ca {
            Some(pem) => Arc::new(roots(&Setting("redis_tls_ca_file", &self.files.ca), pem)?),
            None => system_roots()?,
        };
        // Named rather than taken from the process, where another library may have set its own.
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Kind::Config, error.to_string()))?
            .with_root_certificates(roots);
        let (Some(cert), Some(key)) = (&contents.cert, &contents.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let cert_file = Setting("redis_tls_cert_file", &self.files.cert);
        let key_file = Setting("redis_tls_key_file", &self.files.key);
        let chain = certificates(&cert_file, cert)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
            key_file.refused(
                "holds no private key in PEM without a passphrase (PKCS#8, PKCS#1 or SEC1)",
            )
        })?;
        let made = builder.with_client_auth_cert(chain, key);
        made.map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => cert_file.unusable(&error),
            _ => key_file.refused(&format!(
                "is not the key of the certificate in redis_tls_cert_file ({error})"
            )),
        })
    }
}

/// A setting and the file it names, for messages.
struct Setting<'a>(&'static str, &'a Option<PathBuf>);

impl Setting<'_> {
    fn refused(&self, why: &str) -> Error {
        let path = self.1.as_deref().unwrap_or(Path::new(""));
        Error::new(
            Kind::Config,
            format!("{} {}: {why}", self.0, path.display()),
        )
    }

    fn unusable(&self, error: &rustls::Error) -> Error {
        self.refused(&format!("holds a certificate nobody can use ({error})"))
    }
}

fn read(setting: &'static str, path: Option<&Path>) -> Result<Option<Vec<u8>>> {
    path.map(|path| {
        credential_file::read(path).map_err(|error| {
            let message = format!("{setting} {} cannot be read: {error}", path.display());
            Error::new(Kind::Config, message)
        })
    })
    .transpose()
}

fn certificates(setting: &Setting<'_>, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(setting.refused("holds no certificate in PEM")),
    }
}

fn roots(setting: &Setting<'_>, pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| setting.unusable(&error))?;
    }
    Ok(roots)
}

/// What the system trusts, read once: it takes milliseconds. `SSL_CERT_FILE` and `SSL_CERT_DIR` name
/// another place.
fn system_roots() -> Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry certificates that no verifier takes any more: the others are used.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(
            || io::Error::from(io::ErrorKind::NotFound).to_string(),
            ToString::to_string,
        );
        let message = format!(
            "this system has no certificates to check the server's against ({why}): install ca-certificates, or name a file in redis_tls_ca_file"
        );
        return Err(Error::new(Kind::Config, message));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

#[cfg(test)]
pub(in crate::client::transport) mod tests {
    use std::fs;

    use super::*;

    /// Of `localhost`, signed by itself, until the year 2120.
    pub(in crate::client::transport) const CERTIFICATE: &str = include_str!("localhost.pem");

    /// A key that is nobody's secret, all zeros but the end: with 'A' there, that of the certificate.
    pub(in crate::client::transport) fn key(end: char) -> String {
        let zeros = "A".repeat(39);
        format!(
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA{zeros}{end}\n-----END PRIVATE KEY-----\n"
        )
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_file_is_read_if_one_is_named_and_an_error_names_its_setting() {
        assert_eq!(read("redis_tls_ca_file", None).unwrap(), None);
        let file = file("of it");
        let found = read("redis_tls_ca_file", Some(file.path()));
        assert_eq!(found.unwrap().unwrap(), b"of it");
        let path = file.path().with_extension("none");
        let error = read("redis_tls_ca_file", Some(&path)).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let named = format!("redis_tls_ca_file {} cannot be read", path.display());
        assert!(error.to_string().starts_with(&named), "{error}");
    }

    #[test]
    fn a_configuration_serves_until_the_files_hold_something_else() {
        let ca = file(CERTIFICATE);
        let tls = Tls::new(TlsFiles {
            ca: Some(ca.path().to_owned()),
            ..TlsFiles::default()
        });
        let first = tls.config().unwrap();
        assert!(Arc::ptr_eq(&first, &tls.config().unwrap()));
        fs::write(ca.path(), format!("{CERTIFICATE}\n# renewed\n")).unwrap();
        let second = tls.config().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        // One that cannot be used is none to replace what serves.
        fs::write(ca.path(), "half of it").unwrap();
        assert!(Arc::ptr_eq(&second, &tls.config().unwrap()));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_setting() {
        let unusable = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let (own, another) = (key('A'), key('B'));
        for (ca, cert, key, told) in [
            (CERTIFICATE, CERTIFICATE, &*own, None),
            ("", CERTIFICATE, &own, Some(("ca", "holds no certificate"))),
            (
                &own,
                CERTIFICATE,
                &own,
                Some(("ca", "holds no certificate")),
            ),
            (unusable, CERTIFICATE, &own, Some(("ca", "nobody can use"))),
            (
                CERTIFICATE,
                "",
                &own,
                Some(("cert", "holds no certificate")),
            ),
            (
                CERTIFICATE,
                unusable,
                &own,
                Some(("cert", "nobody can use")),
            ),
            (
                CERTIFICATE,
                CERTIFICATE,
                "",
                Some(("key", "no private key")),
            ),
            (
                CERTIFICATE,
                CERTIFICATE,
                &another,
                Some(("key", "is not the key of")),
            ),
        ] {
            let files = [ca, cert, key].map(file);
            let [ca, cert, key] = files.each_ref().map(|file| Some(file.path().to_owned()));
            let made = Tls::new(TlsFiles { ca, cert, key }).config();
            match (made, told) {
                (Ok(_), None) => {}
                (Err(error), Some((setting, why))) => {
                    let text = error.to_string();
                    let setting = format!("redis_tls_{setting}_file ");
                    assert!(text.starts_with(&setting) && text.contains(why), "{text}");
                }
                (made, told) => panic!("{:?} instead of {told:?}", made.err()),
            }
        }
    }
}
