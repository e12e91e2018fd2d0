"""What is known of rows, and which rows are looked at: images, labels, words, folds."""
