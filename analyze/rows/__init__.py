"""Which rows are measured, and what is known about them: images, labels, words, samples, folds."""
