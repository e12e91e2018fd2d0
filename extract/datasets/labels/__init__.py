"""Labels: `table` reads CSVs of them, `of_images` gives them to images, `classes` has the names."""
