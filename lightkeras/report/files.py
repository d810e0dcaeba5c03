"""Reading files of a run's folder while another process may write, replace or delete them."""

from pathlib import Path

from lightkeras.utils.paths import Folder


def names_of(folder: Folder) -> tuple[str, str]:
    """Returns the names of the folder's parent and of the folder, also of "."."""
    where = folder.absolute() if isinstance(folder, Path) else folder
    return where.parent.name, where.name


def read_bytes(folder: Folder, name: str) -> bytes | None:
    """Reads a file; None if it is missing, no file, or a link that leads out of the folder."""
    path = folder / name
    try:
        if isinstance(path, Path) and not path.resolve().is_relative_to(Path(folder).resolve()):
            return None
        return path.read_bytes() if path.exists() and not path.is_dir() else None
    except (FileNotFoundError, PermissionError):
        return None


def read_text(folder: Folder, name: str) -> str | None:
    """Reads a text file as `read_bytes` does; what is no UTF-8 is replaced."""
    data = read_bytes(folder, name)
    return None if data is None else data.decode("utf-8", "replace")
