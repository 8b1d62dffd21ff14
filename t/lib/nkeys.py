"""Keys and credentials of NATS for tests: Ed25519 by openssl, and the tokens that operators, accounts and
users are described by."""

import base64
import json
import os
import subprocess
import tempfile
import time

KINDS = {"O": 14 << 3, "A": 0, "U": 20 << 3}
PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


def base32(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """A pair of an operator, an account or a user."""

    def __init__(self, kind):
        secret, prefix = os.urandom(32), KINDS[kind]
        self.der = PKCS8 + secret
        public = subprocess.run(["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"],
                                input=self.der, check=True, capture_output=True).stdout[-32:]
        self.public = base32(bytes([prefix]) + public)
        self.seed = base32(bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]) + secret)

    def sign(self, data):
        with tempfile.NamedTemporaryFile() as key, tempfile.NamedTemporaryFile() as text:
            key.write(self.der)
            key.flush()
            text.write(data)
            text.flush()
            return subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", key.name,
                                   "-in", text.name], check=True, capture_output=True).stdout

    def token(self, subject, kind, **more):
        """A token by which this says something of another."""
        def part(value):
            return base64url(json.dumps(value).encode())
        claims = {"jti": base64url(os.urandom(16)), "iat": int(time.time()), "iss": self.public,
                  "name": kind, "sub": subject.public, "nats": {"type": kind, "version": 2, **more}}
        text = part({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + part(claims)
        return text + "." + base64url(self.sign(text.encode()))


ANY = {"subs": -1, "data": -1, "payload": -1}
ACCOUNT = {**ANY, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}


def decentralized():
    """Lines of a server's configuration, and the credentials of a user of its only account."""
    operator, account, user = Key("O"), Key("A"), Key("U")
    lines = (f"operator: {operator.token(operator, 'operator')}\nresolver: MEMORY\n"
             f"resolver_preload: {{ {account.public}: {operator.token(account, 'account', limits=ACCOUNT)} }}\n")
    token = account.token(user, "user", pub={}, sub={}, **ANY)
    return lines, (f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
                   f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
