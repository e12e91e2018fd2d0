"""Readers of datasets: each turns a folder into a `Manifest` and gives out its pictures."""
