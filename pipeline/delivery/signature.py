"""Who answers for a finished folder: an Ed25519 signature (RFC 8032) of its manifest, which holds every file's hash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SignatureError
from ..reading import MAX_JSON_BYTES, read_bytes
from . import manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_HOW = "`openssl genpkey -algorithm ed25519 -out key.pem` makes one; `openssl pkey -in key.pem -pubout` its public half"
_LARGEST_KEY = 100_000  # bytes; a PEM file of an Ed25519 key has about 120, a signature 64


def sign(folder: Path, key: Path) -> Path:
    """Write the signature of a whole folder's manifest beside it; 64 bytes.

    Args:
        key: PEM file of a private key, without a password.

    Raises:
        VerifyError: the folder is not what its manifest says; nothing is signed then.
        SignatureError: the key cannot be used.
    """
    manifest.verify(folder)
    private = _private(key)
    path = folder / manifest.SIGNATURE
    try:
        path.write_bytes(private.sign((folder / manifest.MANIFEST).read_bytes()))
    except OSError as error:
        raise SignatureError(f"cannot write '{path}': {error}") from error
    return path


def check(folder: Path, key: Path) -> None:
    """Raise a SignatureError where the manifest is not signed with the private half of a key.

    It says nothing of the other files: check those with `manifest.verify`.

    Args:
        key: PEM file of the public key.
    """
    from cryptography.exceptions import InvalidSignature

    public, path = _public(key), folder / manifest.SIGNATURE
    if not path.is_file():
        raise SignatureError(f"'{folder}' is not signed: no '{manifest.SIGNATURE}'. `twinkeel sign` writes it.")
    try:
        signed = read_bytes(folder / manifest.MANIFEST, MAX_JSON_BYTES)
        public.verify(read_bytes(path, _LARGEST_KEY), signed)
    except OSError as error:
        raise SignatureError(f"cannot read the signature: {error}") from error
    except InvalidSignature as error:
        raise SignatureError(
            f"'{path}' was not made with the key of '{key}' for this manifest: another key, or one of the two files "
            "was changed."
        ) from error


def _private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = _loaded(path, "private", lambda pem: load_pem_private_key(pem, password=None))
    if not isinstance(found, Ed25519PrivateKey):
        raise SignatureError(f"'{path}' holds another kind of key than Ed25519: {_HOW}")
    return found


def _public(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = _loaded(path, "public", load_pem_public_key)
    if not isinstance(found, Ed25519PublicKey):
        raise SignatureError(f"'{path}' holds another kind of key than Ed25519: {_HOW}")
    return found


def _loaded(path: Path, kind: str, load: Callable[[bytes], object]) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(read_bytes(path, _LARGEST_KEY))
    except OSError as error:
        raise SignatureError(f"cannot read the key '{path}': {error}. {_HOW}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"'{path}' holds no {kind} key in PEM without a password: {_HOW}") from error
