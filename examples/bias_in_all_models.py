"""What goes with an attribute in one model, and in all of them: a bias, say.

    python examples/bias_in_all_models.py

Is what a caption calls black or yellow an attribute that image models use, without reading
captions? Each model chose its latents alone. `q` is corrected for the number of latents looked at.
"""

import sparc

report = sparc.Report("demo")
for colour in ("black", "yellow", "purple"):
    table = report.bias(f"words:{colour}").associations
    found = table[table["associated"] & (table["log_odds"] > 0)]
    print(f"images whose caption says {colour!r}:")
    for stream in report.info.streams:
        of_stream = found[found["stream"] == stream].sort_values("q").head(3)
        shown = ", ".join(
            f"latent {row.latent} (on {row.frequency_with:.0%} of them, {row.frequency_without:.0%}"
            f" of the others)"
            for row in of_stream.itertuples()
        )
        print(f"  {stream:<7} {shown or 'no latent goes with it'}")
    everywhere = sorted(set(found[found["sharing"] == "all"]["latent"]))
    print(f"  in all models: {', '.join(map(str, everywhere)) or 'none'}")
