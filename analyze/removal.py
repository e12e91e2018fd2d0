"""Removing a report whose place another one is to take."""

from sparc.analyze.codes.store import CODES
from sparc.analyze.measures.registry import table_names
from sparc.analyze.report.digests import DIGESTS_FILE
from sparc.analyze.report.folder import SUMMARY_FILE
from sparc.analyze.report.info import INFO_FILE
from sparc.analyze.report.tables import file_of
from sparc.analyze.report.writer import PIECES, recognize
from sparc.analyze.search.index_folder import FOLDER as INDEX
from sparc.common.errors import ReportError
from sparc.common.files.artefacts import remove_content
from sparc.common.files.folder import Folder


def remove_report(folder: Folder) -> None:
    """Remove the report that a folder holds, finished or not; nothing happens where there is none.

    Hold `sparc.common.files.lock.exclusive` around it.

    Raises:
        ReportError: The folder holds something else, or something else besides; then all stays.
    """
    recognize(folder)
    # An interruption leaves what is still a report: an unfinished one, whose record goes last.
    tables = map(file_of, table_names())
    content = (SUMMARY_FILE, PIECES, INDEX, *tables, CODES, DIGESTS_FILE, INFO_FILE)
    remove_content(folder, "report", content, ReportError)
