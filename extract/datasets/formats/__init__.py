"""The formats of datasets: what each recognises, lists and opens."""
