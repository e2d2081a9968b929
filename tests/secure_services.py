"""A broker and a Redis that believe nobody: TLS, users, access lists. Certificates are made for the run by openssl."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from quarterturn.worker.settings.worker import Topics
from tests import services

PASSWORD = "correct-horse-7"  # pragma: allowlist secret

_PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{{port}},USERS://127.0.0.1:{users},TOKEN://127.0.0.1:{token},MUTUAL://127.0.0.1:{mutual},\
CONTROLLER://127.0.0.1:{{controller}}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_SSL,TOKEN:SASL_SSL,MUTUAL:SSL
inter.broker.listener.name=PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.crt
listener.name.users.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.users.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.users.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.users.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_worker="{password}";
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/
listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.token.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule \
required unsecuredLoginStringClaim_sub="broker";
"""

# docs/security.md says the same; a test compares them.
WORKER_RULES = (
    "resetkeys %R~bank:* resetchannels &bank:* -@all +get +hget +hmget +zrevrange +subscribe +unsubscribe +ping +info"
)
PUBLISHER_RULES = (
    "resetkeys ~bank:* resetchannels &bank:* -@all +@read +@write +@transaction +publish +subscribe +ping +time"
)


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, certificates of a server at 127.0.0.1 and of a client, and another authority."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("ca", "stranger"):
            self._openssl("req", "-x509", *self._new_key(name), "-out", f"{name}.crt", "-days", "2")
        (self.folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        for name, more in (("server", ("-extfile", "names")), ("worker", ())):
            self._openssl("req", *self._new_key(name), "-out", f"{name}.csr")
            signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", *more, "-days", "2")
            self._openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
        both = (self.folder / "server.key").read_text() + (self.folder / "server.crt").read_text()
        (self.folder / "server.pem").write_text(both)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def stranger(self) -> Path:
        return self.folder / "stranger.crt"

    def client(self, name: str = "worker") -> dict[str, Path]:
        """The settings `tls` of a client with the certificate of `name`: `worker` or, not to be trusted, `stranger`."""
        return {"ca": self.ca, "certificate": self.folder / f"{name}.crt", "key": self.folder / f"{name}.key"}

    def _new_key(self, name: str) -> tuple[str, ...]:
        return ("-newkey", "rsa:2048", "-noenc", "-keyout", f"{name}.key", "-subj", f"/CN={name}")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(("openssl", *arguments), cwd=self.folder, check=True, capture_output=True)


@dataclass(frozen=True)
class SecureKafka:
    """Addresses: `users` log in with a password, `token` with one, `mutual` by a certificate; `admin` may do all."""

    admin: str
    users: str
    token: str
    mutual: str
    certificates: Certificates

    def create_line(self, topics: Topics, group: str) -> None:
        """The topics, and what docs/security.md gives to the user `worker`."""
        client = AdminClient({"bootstrap.servers": self.admin, "log_level": 2})
        for created in client.create_topics([NewTopic(name, 1) for name in topics.model_dump().values()]).values():
            created.result(timeout=30)
        outs = [topics.verdicts, topics.alerts, topics.dead_letters]
        kinds, exact, begins = ResourceType, ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
        rights = [
            *((kinds.TOPIC, read, exact, AclOperation.READ) for read in (topics.frames, topics.silences)),
            *((kinds.TOPIC, out, exact, AclOperation.WRITE) for out in outs),
            (kinds.GROUP, group, exact, AclOperation.READ),
            (kinds.TRANSACTIONAL_ID, f"{group}-", begins, AclOperation.WRITE),
        ]
        allow = AclPermissionType.ALLOW
        acls = [AclBinding(kind, name, how, "User:worker", "*", what, allow) for kind, name, how, what in rights]
        for made in client.create_acls(acls).values():
            made.result(timeout=30)


@contextlib.contextmanager
def secure_kafka() -> Iterator[SecureKafka]:
    """A broker with access lists, and listeners for passwords, unsigned tokens and certificates."""
    services.install_kafka()
    with services.folder_for("secure-kafka") as folder:
        certificates = Certificates(folder)
        users, token, mutual = services.free_ports(3)
        properties = _PROPERTIES.format(users=users, token=token, mutual=mutual, folder=folder, password=PASSWORD)
        mechanisms = ("SCRAM-SHA-256", "SCRAM-SHA-512")
        scram = [part for name in mechanisms for part in ("--add-scram", f"{name}=[name=worker,password={PASSWORD}]")]
        broker = services.Broker(folder, properties, scram)
        broker.start()
        try:
            where = (f"127.0.0.1:{port}" for port in (users, token, mutual))
            yield SecureKafka(broker.bootstrap, *where, certificates)
        finally:
            broker.kill()


def unsigned_token(user: str, lifetime_s: int = 3600) -> str:
    """A JSON web token that only a broker under test believes."""

    def part(claims: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()

    now = int(time.time())
    return f"{part({'alg': 'none'})}.{part({'sub': user, 'iat': now, 'exp': now + lifetime_s})}."


@dataclass(frozen=True)
class SecureRedis:
    """A server with the users `worker` and `publisher`; `admin` may do all."""

    url: str
    certificates: Certificates


@contextlib.contextmanager
def secure_redis() -> Iterator[SecureRedis]:
    """A Redis that speaks TLS alone, and has the users of docs/security.md."""
    services.install_redis()
    with services.folder_for("secure-redis") as folder:
        certificates = Certificates(folder)
        (port,) = services.free_ports(1)
        users = {"worker": WORKER_RULES, "publisher": PUBLISHER_RULES, "admin": "~* &* +@all"}
        lines = [f"user {name} on >{PASSWORD} {rules}" for name, rules in users.items()]
        lines += [
            "user default off",
            f"port 0\ntls-port {port}\nbind 127.0.0.1\ntls-auth-clients optional\nsave ''\ndir {folder}",
        ]
        lines += [f"tls-cert-file {folder}/server.crt", f"tls-key-file {folder}/server.key"]
        lines += [f"tls-ca-cert-file {folder}/ca.crt"]
        (folder / "redis.conf").write_text("\n".join(lines).replace("''", '""') + "\n")
        url = f"rediss://127.0.0.1:{port}/0"

        def answers() -> bool:
            try:
                with redis.Redis.from_url(
                    url, username="admin", password=PASSWORD, ssl_ca_certs=str(certificates.ca)
                ) as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False

        process = services.start(("redis-server", str(folder / "redis.conf")), folder / "redis.log", port, answers)
        try:
            yield SecureRedis(url, certificates)
        finally:
            services.end(process)
