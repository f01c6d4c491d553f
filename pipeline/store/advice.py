"""What to do about a store that cannot be used, by what its file system or the driver of it says."""

from __future__ import annotations

import errno
from collections.abc import Iterator

_NO_KEYS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
"""Errors of drivers that have no keys; to ask again would find none either."""
_BAD_KEYS = (
    "CredentialRetrievalError", "UnauthorizedSSOTokenError", "ClientAuthenticationError", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
    "InvalidToken", "Access Key Id you provided does not exist", "token has expired", "signature we calculated does not match",
)  # fmt: skip
"""Names of errors, and words in them: s3fs keeps the words alone."""
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
}
_AGAIN = "then run the same command again; what was made is kept"


def has_no_keys(error: BaseException) -> bool:
    """Whether a driver has no keys for its store, which no patience mends."""
    return any(type(one).__name__ in _NO_KEYS for one in _chain(error))


def advice(url: str, error: BaseException, *, is_local: bool) -> str:
    """What is wrong with a store, and what to do, in whole sentences."""
    numbers = {one.errno for one in _chain(error) if isinstance(one, OSError)}
    told = " ".join(f"{type(one).__name__} {one}" for one in _chain(error))
    scheme, _, rest = url.rpartition("://")
    if has_no_keys(error) or any(word in told for word in _BAD_KEYS):
        names = f" ({_KEYS[scheme]})" if scheme in _KEYS else ""
        return f"The keys that lead to it are missing, wrong or expired: set them{names} here and for every worker, {_AGAIN}."
    if "InvalidBucketName" in told or "Invalid bucket name" in told:
        return "That is no name of a bucket: give another address with --store, as in 's3://bucket/twinkeel'."
    if "NoSuchBucket" in told or (not is_local and any(isinstance(one, FileNotFoundError) for one in _chain(error))):
        bucket = f"{scheme}://{rest.partition('/')[0]}"
        how = f" (aws s3 mb {bucket})" if scheme == "s3" else ""
        return (
            f"There is no '{bucket}', and it is not made by itself: make it{how}, or give another address with --store."
        )
    if errno.EROFS in numbers:
        return f"It is read-only: mount it so that it can be written, or give another folder with --store, {_AGAIN}."
    if numbers & {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"It is full: make room (`twinkeel cache prune`), {_AGAIN}."
    if numbers & {errno.EACCES, errno.EPERM} or any(isinstance(one, PermissionError) for one in _chain(error)):
        who = "This user" if is_local else "Who has these keys"
        return f"{who} may not do that: allow reading, writing and removing there, or give another place with --store, {_AGAIN}."
    return "What was made is kept there: run the same command again when it answers."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what is behind it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
