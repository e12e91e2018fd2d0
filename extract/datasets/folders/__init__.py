"""Where the files of a dataset lie: in a folder of this machine or behind a URL."""
