"""Certificates for tests, made with openssl in a directory of the room: an authority, a server for 127.0.0.1, a client."""

import ssl
import subprocess

from parts import on_path


class Authority:
    """A certificate authority of our own. `name` keeps the files of several apart."""

    def __init__(self, room, name):
        self.room = room
        self.name = name
        self.certificate = str(room.path(f"{name}-ca.pem"))
        self.key = str(room.path(f"{name}-ca.key"))
        self.call(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout", self.key,
            "-out", self.certificate, "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign",
        )

    def issue(self, name, alternative):
        """A certificate with its key, for `alternative`, such as IP:127.0.0.1."""
        certificate, key, request = (str(self.room.path(f"{self.name}-{name}.{ending}")) for ending in ("pem", "key", "csr"))
        self.call(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
            "-subj", f"/CN={name}",
        )
        extensions = self.room.path(f"{self.name}-{name}.ext")
        extensions.write_text(f"subjectAltName={alternative}\n")
        self.call(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
            "-extfile", str(extensions), "-out", certificate,
        )
        return certificate, key

    @staticmethod
    def call(*arguments):
        subprocess.run([on_path("openssl"), *arguments], check=True, capture_output=True, timeout=60)


def server_context(certificate, key, client_authority=None):
    """What a TLS server needs; with `client_authority` it asks every client for a certificate of that one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_authority:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_authority)
    return context
