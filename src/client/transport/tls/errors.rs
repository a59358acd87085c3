//! Why a handshake came to nothing, and which setting to look at.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::config::TlsFiles;
use crate::error::{Error, Kind};

/// What is known where an error has to be explained.
pub(in crate::client) struct Refusal<'a> {
    pub(super) files: &'a TlsFiles,
    pub(super) host: &'a str,
}

impl Refusal<'_> {
    /// Of an error in the handshake.
    pub(super) fn of_handshake(&self, error: &io::Error) -> Error {
        match inner(error) {
            Some(TlsError::InvalidCertificate(why)) => self.of_certificate(why),
            Some(TlsError::AlertReceived(alert)) => self.of_alert(*alert),
            Some(TlsError::InvalidMessage(_)) => Self::without_tls(),
            Some(TlsError::PeerIncompatible(why)) => refused(&format!(
                "the server and this client have no version or cipher of TLS in common ({why:?}): TLS 1.2 and 1.3 are spoken"
            )),
            Some(other) => refused(&format!("the TLS handshake failed: {other}")),
            None => unavailable(&format!(
                "the connection broke in the TLS handshake ({error}): check that the server runs and speaks TLS on the port of redis_url"
            )),
        }
    }

    /// Of what answered, and not in TLS.
    pub(in crate::client) fn without_tls() -> Error {
        unavailable(
            "what answered does not speak TLS: check the port of redis_url, or use redis:// if the server has no TLS",
        )
    }

    /// Of an error at the first words after it, where a server of TLS 1.3 refuses our certificate.
    pub(in crate::client) fn of_login(&self, error: &io::Error) -> Error {
        match inner(error) {
            Some(TlsError::AlertReceived(alert)) => self.of_alert(*alert),
            Some(other) => refused(&format!("TLS failed: {other}")),
            None => unavailable(&format!(
                "the connection ended after the TLS handshake, before the server answered ({error}): check that it runs; if it asks clients for a certificate, look at redis_tls_cert_file"
            )),
        }
    }

    fn of_certificate(&self, why: &CertificateError) -> Error {
        let trusted = match &self.files.ca {
            Some(path) => format!("a certificate in redis_tls_ca_file ({})", path.display()),
            None => {
                "a certificate that this system trusts; name the one that did in redis_tls_ca_file"
                    .to_owned()
            }
        };
        let host = self.host;
        refused(&match why {
            CertificateError::UnknownIssuer => {
                format!("the server's certificate is not signed by {trusted}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired: renew it at the server of redis_url".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: check the clocks here and at the server of redis_url".to_owned()
            }
            CertificateError::NotValidForName => format!(
                "the server's certificate is for another host than {host:?} of redis_url: use a name that it bears"
            ),
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "the server's certificate is for another host than {host:?} of redis_url: use a name that it bears ({})",
                presented.join(", ")
            ),
            other => format!(
                "the server's certificate will not do: {other}; it is checked against {trusted}"
            ),
        })
    }

    fn of_alert(&self, alert: AlertDescription) -> Error {
        use AlertDescription as Alert;
        let shown = self.files.cert.is_some();
        refused(&match alert {
            Alert::CertificateRequired | Alert::HandshakeFailure | Alert::CertificateUnknown
                if !shown =>
            {
                format!(
                    "the server ended the TLS handshake ({alert:?}): it asks clients for a certificate, set redis_tls_cert_file and redis_tls_key_file"
                )
            }
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::DecryptError
            | Alert::AccessDenied
                if shown =>
            {
                format!(
                    "the server does not accept the certificate in redis_tls_cert_file ({alert:?}): have it signed by one that the server trusts"
                )
            }
            _ => format!("the server ended the TLS handshake: {alert:?}"),
        })
    }
}

/// The error of TLS that an I/O error carries.
fn inner(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// One side did not prove who it is: trying again would not help, and the server is there.
fn refused(message: &str) -> Error {
    Error::new(Kind::Auth, message)
}

/// No server of the right kind was found there.
fn unavailable(message: &str) -> Error {
    Error::new(Kind::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an alert: to who has shown a certificate, and to who has none.
    fn told(alert: AlertDescription) -> [String; 2] {
        [Some("c.pem".into()), None].map(|cert| {
            let files = TlsFiles {
                cert,
                ..TlsFiles::default()
            };
            let refusal = Refusal {
                files: &files,
                host: "localhost",
            };
            let alert = io::Error::new(io::ErrorKind::InvalidData, TlsError::AlertReceived(alert));
            let texts = [refusal.of_handshake(&alert), refusal.of_login(&alert)];
            let [first, second] = texts.map(|error| {
                assert_eq!(error.kind(), Kind::Auth);
                error.to_string()
            });
            assert_eq!(first, second);
            first
        })
    }

    #[test]
    fn an_alert_is_of_the_certificate_that_was_shown_or_of_none() {
        let (asks, refuses) = (
            "asks clients for a certificate",
            "does not accept the certificate",
        );
        for (alert, shown, none) in [
            (AlertDescription::CertificateRequired, "", asks),
            (AlertDescription::HandshakeFailure, "", asks),
            (AlertDescription::CertificateUnknown, refuses, asks),
            (AlertDescription::UnknownCA, refuses, ""),
            (AlertDescription::AccessDenied, refuses, ""),
            (AlertDescription::ProtocolVersion, "", ""),
        ] {
            for (text, expected) in told(alert).iter().zip([shown, none]) {
                let said = [asks, refuses].map(|words| text.contains(words));
                assert_eq!(
                    said,
                    [asks, refuses].map(|words| words == expected),
                    "{text}"
                );
                assert!(text.contains(&format!("{alert:?}")), "{text}");
            }
        }
    }
}
