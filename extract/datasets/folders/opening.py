"""The folder that a dataset's location names."""

from sparc.extract.datasets.folders.local import LocalFolder
from sparc.extract.datasets.folders.locations import Location
from sparc.extract.datasets.folders.remote import RemoteFolder
from sparc.extract.datasets.safe_folder import SafeFolder


def open_folder(location: Location) -> SafeFolder:
    """Open a dataset's folder.

    Raises:
        DatasetError: There is no such folder, or it cannot be read.
    """
    if location.is_url:
        return RemoteFolder(location)
    return LocalFolder(location.name, location.chosen)
