"""What the errors of file systems behind URLs mean: which pass, which stay, and what to do then."""

import errno
from typing import Any

_PASSING_STATUS = (408, 409, 425, 429)
_PASSING_CODES = (
    *("RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"),
    *("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalError"),
    *("ServiceUnavailable", "OperationAborted", "ConditionalRequestConflict"),
)
_LASTING_ERRORS = (
    *(FileNotFoundError, FileExistsError, PermissionError),
    *(IsADirectoryError, NotADirectoryError),
)
_LASTING_ERRNO = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOENT", "EEXIST", "EACCES", "EPERM", "EINVAL", "EISDIR", "ENOTDIR", "ENOTEMPTY"),
        *("ENOSYS", "ENAMETOOLONG", "EMSGSIZE", "ENOSPC", "EDQUOT", "EROFS"),
        "EREMCHG",
    )
    if hasattr(errno, name)
)
_CLIENTS = frozenset(
    ("aiohttp", "aiobotocore", "botocore", "fsspec", "gcsfs", "google", "azure", "requests")
) | {"urllib3", "http", "paramiko"}
"""Packages that speak to stores: their errors are about requests."""

_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError")
_LASTING = (
    *_NO_CREDENTIALS,
    *("ParamValidationError", "ProfileNotFound", "NoRegionError", "InvalidRegionError"),
    *("InvalidEndpointConfigurationError", "InvalidURL", "InvalidUrlClientError"),
)


class ShortReadError(OSError):
    """Fewer bytes arrived than the object has."""


def passes(error: Exception) -> bool:
    """Whether the same request may succeed a moment later."""
    code, status = _answer_of(error)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUS or code in _PASSING_CODES
    if isinstance(error, _LASTING_ERRORS):
        return False
    if isinstance(error, ShortReadError | TimeoutError | ConnectionError):
        return True
    if type(error).__module__.partition(".")[0] in _CLIENTS:
        return type(error).__name__ not in _LASTING
    return isinstance(error, OSError) and error.errno not in _LASTING_ERRNO


def is_about_request(error: Exception) -> bool:
    """Whether it is a store, or what speaks to it, that raised an error, and no mistake of ours."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENTS


def is_refused(error: Exception) -> bool:
    """Whether a conditional write was refused since its condition does not hold."""
    code, status = _answer_of(error)
    return isinstance(error, FileExistsError) or code == "PreconditionFailed" or status == 412


def in_words(error: Exception) -> str:
    """What happened, in a line."""
    _, status = _answer_of(error)
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    text = " ".join(text.split()).rstrip(".")
    return f"{text} (status {status})" if status is not None and str(status) not in text else text


def way_out(error: Exception, bucket: str) -> str:
    """What a person can do about an error that stays."""
    code, _ = _answer_of(error)
    if type(error).__name__ in _NO_CREDENTIALS:
        return "give credentials, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    if code == "NoSuchBucket":
        return f"create the bucket {bucket}, or correct the URL"
    if isinstance(error, FileNotFoundError):
        return f"see that {bucket} exists, or correct the URL"
    if isinstance(error, PermissionError):
        return f"see that the credentials of this process are valid and allow that in {bucket}"
    if "endpoint" in type(error).__name__.lower() or isinstance(error, ConnectionError):
        return (
            "see that the store runs and is in reach (AWS_ENDPOINT_URL, the network), then run the "
            "same command again"
        )
    return "run the same command again once the store answers"


def _answer_of(error: BaseException) -> tuple[str | None, int | None]:
    """Code and status of an answer that became an error; None where there was none."""
    for answered in (error, error.__cause__):
        response: Any = getattr(answered, "response", None)
        if isinstance(response, dict) and isinstance(response.get("Error"), dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = response["Error"].get("Code")
            return code, status if isinstance(status, int) else _number(code)
        status = getattr(answered, "status", None)  # aiohttp
        if isinstance(status, int) and status >= 100:
            return None, status
    return None, None


def _number(code: object) -> int | None:
    return int(code) if isinstance(code, str) and code.isdecimal() else None
