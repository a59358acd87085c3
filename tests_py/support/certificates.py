"""Certificates made for one test, and the servers that show them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "localhost"


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as the files that settings name."""

    cert: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        """For a storage that shows this certificate."""
        return {"redis_tls_cert_file": str(self.cert), "redis_tls_key_file": str(self.key)}

    def replace(self, other: Identity) -> None:
        """Puts another certificate in the place of this one."""
        for ours, theirs in ((self.cert, other.cert), (self.key, other.key)):
            ours.write_bytes(theirs.read_bytes())


class Authority:
    """Who signs certificates; ``path`` is its own, for those who are to trust it."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._ca = trustme.CA(organization_name=name)
        self.path = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.path))

    @property
    def settings(self) -> dict[str, str]:
        """For a storage that trusts what was signed here."""
        return {"redis_tls_ca_file": str(self.path)}

    def issue(self, name: str, *hosts: str, not_after: dt.datetime | None = None) -> Identity:
        """A certificate for these hosts; HOST and 127.0.0.1 when none is given."""
        issued = self._ca.issue_cert(*(hosts or (HOST, "127.0.0.1")), not_after=not_after)
        identity = Identity(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        issued.private_key_pem.write_to_path(str(identity.key))
        identity.cert.unlink(missing_ok=True)
        for pem in issued.cert_chain_pems:
            pem.write_to_path(str(identity.cert), append=True)
        return identity


def self_signed(directory: Path) -> Identity:
    """A certificate for HOST that nobody but itself has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    identity = Identity(directory / "self.pem", directory / "self.key")
    pem = serialization.Encoding.PEM
    identity.cert.write_bytes(certificate.public_bytes(pem))
    private = serialization.PrivateFormat.PKCS8
    identity.key.write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
    return identity


def tls_options(
    identity: Identity, *, clients: Authority | None = None, ca: Authority | None = None
) -> dict[str, Any]:
    """Options of a ``RedisServer(tls=True)``: its certificate, and whose clients it lets in.

    Args:
        identity: The server's certificate.
        clients: Who has to have signed a client's certificate; None asks clients for none.
        ca: What it trusts where it asks for nothing; a server will not start without any.
    """
    trusted = clients or ca
    return {
        "tls_cert_file": str(identity.cert),
        "tls_key_file": str(identity.key),
        "tls_ca_cert_file": str(trusted.path if trusted else identity.cert),
        "tls_auth_clients": "yes" if clients else "no",
    }
