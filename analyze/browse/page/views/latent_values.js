"use strict";
/** How strongly a latent is active: a histogram of its values, and pictures of the bin that was chosen. */
Page.latentValues = (() => {
  const { h, number, plural } = Page.dom;

  /** @param {object[]} own what the latent is in each stream, with `stream`, its name */
  function draw(detail, own, params) {
    const lines = own.filter((one) => one.histogram);
    if (!lines.length) return null;
    const bin = params.has("bin") ? Number(params.get("bin")) : -1;
    const choose = (other) => Page.route.set({ bin: other === bin ? null : String(other) });
    const legend = lines.map(({ stream }) => h("li", Page.figures.stream(stream)));
    return Page.latentEvidence.panel(
      "How strongly it is active",
      "Rows by value, counts on a log scale; every stream from 0 to its own largest value. Choose a bin to see images of it.",
      h("ul.legend", legend),
      Page.histograms.values(lines, bin, choose),
      lines[0].histogram.counts[bin] === undefined ? null : chosen(detail, lines, bin),
    );
  }

  /** What is in the bin that was chosen, stream by stream. */
  function chosen(detail, lines, bin) {
    const inStream = ({ stream, histogram: { edges, counts, examples } }) => {
      const series = (examples[bin] ?? []).map(([place, value]) => ({ place, value, stream }));
      const range = `${number(edges[bin], 2)} to ${number(edges[bin + 1], 2)}: ${plural(counts[bin], "row")}`;
      const shots = series.map((_, at) => h("li", Page.zoom.shot(detail, series, at)));
      return h(
        "div",
        h("p", Page.figures.stream(stream), h("small", range)),
        shots.length ? h("ol.tiles.small", shots) : h("p.empty", "No example here."),
      );
    };
    return h("div.bin-examples", lines.map(inStream));
  }

  return { draw };
})();
