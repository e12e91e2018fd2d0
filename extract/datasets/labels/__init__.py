"""Labels: CSVs of them (`table`), given to `of_images`; names of `classes`, also `of_folders`."""
