"""The Hugging Face Hub: policies that others share, by an address, and how to share one there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from recurrent_rl.agents.errors import UserError
from recurrent_rl.agents.extras import optional
from recurrent_rl.agents.files import PolicyFileError

SCHEME = "hf://"
FORM = "hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME@REVISION/FILE"
POLICY = "policy.safetensors"
"""The policy's file in the folder of a run, and in a repository."""
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_ADDRESS = re.compile(
    rf"hf://(?P<repo>{_REPOSITORY.pattern})(@(?P<revision>refs/pr/\d+|[^/@]+))?(/(?P<file>[^/].*))?",
    re.ASCII,
)


class Address(NamedTuple):
    """Where a file lies on the Hub."""

    repo: str
    """`OWNER/NAME`."""
    revision: str | None
    """A branch, a tag or a commit; None: the newest."""
    file: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; a slash in the name of a branch is written %2F.

        Raises:
            PolicyFileError: it has another form.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise PolicyFileError(f"{text!r} is no address on the Hugging Face Hub; write {FORM}.")
        revision = found["revision"]
        return cls(found["repo"], revision and unquote(revision), found["file"] or POLICY)


def local_file(path: str | Path) -> Path:
    """A path as it is; a file on the Hub once it lies in the Hub's cache on this machine.

    Raises:
        PolicyFileError: an address has another form, or its file cannot be had; says why.
    """
    if isinstance(path, str) and path.startswith(SCHEME):
        return _downloaded(path)
    return Path(path)


def _downloaded(text: str) -> Path:
    """The file of an address in the Hub's cache, which downloads it where it is not the newest."""
    address = Address.parse(text)
    hub = _library(f"Loading {text}", PolicyFileError)
    errors = hub.errors
    page = f"https://huggingface.co/{address.repo}"
    try:
        return Path(hub.hf_hub_download(address.repo, address.file, revision=address.revision))
    except errors.GatedRepoError:
        raise PolicyFileError(
            f"{text} is for those who were granted access: ask for it at {page}, then log in: "
            "hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise PolicyFileError(
            f"There is no repository {address.repo} on the Hugging Face Hub that you may read. See "
            "whether the name is right; where it is private, log in: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise PolicyFileError(
            f"The repository {address.repo} has no branch, tag or commit {address.revision!r}; "
            f"those that it has are at {page}/commits. Without one the newest is taken."
        ) from None
    except errors.LocalEntryNotFoundError:
        raise PolicyFileError(
            f"{text} was not downloaded to this machine before, and the Hub cannot be reached: the "
            "network is down, or HF_HUB_OFFLINE is set."
        ) from None
    except errors.EntryNotFoundError:
        raise PolicyFileError(
            f"The repository {address.repo} holds no {address.file}; its files are at "
            f"{page}/tree/{address.revision or 'main'}. Name one: "
            f"hf://{address.repo}/FILE.safetensors"
        ) from None
    except _failures(errors) as error:
        raise PolicyFileError(
            f"{text} cannot be downloaded ({_first_line(error)}). See whether the network is there "
            "and the Hub answers, and try again."
        ) from error


def upload(
    folder: Path,
    repo: str,
    *,
    revision: str | None,
    private: bool | None,
    message: str,
    token: str | None,
) -> str:
    """Bring the files of a folder into a repository of models, which is made where there is none.

    Args:
        folder: whose files to upload.
        repo: `OWNER/NAME`.
        revision: branch to commit to, made where there is none; None: the main one.
        private: whether only its owner sees a repository that is made now; None: as the owner has
            set.
        message: of the commit.
        token: of the account; None takes that of `hf auth login` or HF_TOKEN.

    Returns:
        The address of the repository's page.

    Raises:
        UserError: huggingface-hub is not installed, or the Hub refuses, or cannot be reached.
    """
    hub = _library("Sharing a policy", UserError)
    with _told(hub.errors, repo):
        api = hub.HfApi(token=token)
        page = str(api.create_repo(repo, private=private, exist_ok=True))
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=str(folder), revision=revision, commit_message=message
        )
    return page


def check_repository(repo: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        UserError: says what one looks like.
    """
    if not isinstance(repo, str) or not _REPOSITORY.fullmatch(repo):
        raise UserError(
            f"{repo!r} is no repository of the Hugging Face Hub; write OWNER/NAME, where OWNER is "
            "your name there, or an organisation's."
        )


@contextmanager
def _told(errors: Any, repo: str) -> Iterator[None]:
    """Say of a failed upload what to do."""
    try:
        yield
    except errors.LocalTokenNotFoundError:
        raise UserError(
            f"To upload to {repo}, log in first: hf auth login (or set HF_TOKEN)."
        ) from None
    except _failures(errors) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            fix = (
                f"Log in (hf auth login, or HF_TOKEN) with a token that may write to {repo}, and "
                "see that its owner is you or an organisation of yours."
            )
        else:
            fix = "See whether the network is there and the Hub answers, and try again."
        raise UserError(f"{repo} cannot be uploaded to ({_first_line(error)}). {fix}") from error


def _failures(errors: Any) -> tuple[type[Exception], ...]:
    """What the library raises of the network, of the Hub's answers and of names it refuses.

    Its own error of HTTP is derived from that of the package it sends with.
    """
    return (*errors.HfHubHTTPError.__bases__, OSError, ValueError)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _library(purpose: str, error: type[UserError]) -> Any:
    """The package huggingface_hub.

    Raises:
        error: it is not installed.
    """
    optional("huggingface_hub.errors", purpose, error=error)
    return optional("huggingface_hub", purpose, error=error)
