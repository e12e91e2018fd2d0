"""The folder that a dataset's location names."""

from sparc.common.errors import DatasetError
from sparc.extract.datasets.folders.local import LocalFolder
from sparc.extract.datasets.folders.locations import Location
from sparc.extract.datasets.safe_folder import SafeFolder


def open_folder(location: Location) -> SafeFolder:
    """Open a dataset's folder.

    Raises:
        DatasetError: There is no such folder, or it cannot be read.
    """
    if location.is_url:
        raise DatasetError(
            f"{location.name} is a URL: datasets are read from folders, copy it to this machine"
        )
    return LocalFolder(location.name, location.chosen)
