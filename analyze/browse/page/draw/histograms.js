"use strict";
/** Histograms: the one behind a range filter, and the values of a latent with a line a stream. */
Page.histograms = (() => {
  const { svg, number } = Page.dom;
  const DASHES = ["none", "7 3", "2 3", "9 3 2 3", "4 4", "1 4"]; // lines differ without colour, too

  /** Counts of finite numbers in equal bins. @returns {{counts: number[], low: number, high: number}} */
  function counts(values, bins, kept) {
    let [low, high] = [Infinity, -Infinity];
    for (let i = 0; i < values.length; i += 1) {
      if (!kept[i] || !Number.isFinite(values[i])) continue;
      low = Math.min(low, values[i]);
      high = Math.max(high, values[i]);
    }
    const result = new Array(bins).fill(0);
    const width = (high - low) / bins || 1;
    for (let i = 0; i < values.length; i += 1) {
      if (kept[i] && Number.isFinite(values[i])) result[Math.min(bins - 1, Math.floor((values[i] - low) / width))] += 1;
    }
    return { counts: result, low: low === Infinity ? 0 : low, high: high === -Infinity ? 1 : high };
  }

  /** Small bars; those outside the range are pale. */
  function bars(histogram, range) {
    const most = Math.max(1, ...histogram.counts);
    const width = (histogram.high - histogram.low) / histogram.counts.length;
    const bar = (count, bin) => {
      const tall = count ? Math.max(1, 24 * Math.sqrt(count / most)) : 0;
      const middle = histogram.low + (bin + 0.5) * width;
      const outside = middle < range.low || middle > range.high;
      return svg("rect", { x: bin * 4, y: 24 - tall, width: 3.2, height: tall, class: outside ? "out" : "" });
    };
    const box = `0 0 ${histogram.counts.length * 4} 24`;
    return svg(
      "svg.bins",
      { viewBox: box, preserveAspectRatio: "none", "aria-hidden": "true" },
      histogram.counts.map(bar),
    );
  }

  /**
   * How often a latent has which value: a line a stream, counts on a log scale. Streams have values
   * of their own size, so that each runs from 0 to its largest.
   * @param {{stream: string, histogram: {edges: number[], counts: number[]}}[]} lines
   * @param {number} chosen the bin that is marked, -1 for none
   * @param {(bin: number) => void} choose called with the bin that was clicked
   */
  function values(lines, chosen, choose) {
    const [wide, tall, left, right, bottom] = [640, 210, 44, 12, 28];
    const bins = lines[0].histogram.counts.length;
    const most = Math.max(1, ...lines.flatMap((line) => line.histogram.counts));
    const y = (count) => tall - bottom - ((tall - bottom - 12) * Math.log1p(count)) / Math.log1p(most);
    const x = (bin) => left + ((wide - left - right) * bin) / bins;
    const steps = ({ histogram }) =>
      histogram.counts
        .map((count, bin) => `${bin ? "L" : "M"}${x(bin).toFixed(1)} ${y(count).toFixed(1)}H${x(bin + 1).toFixed(1)}`)
        .join("");
    const level = (count) => [
      svg("line.grid", { x1: left, x2: wide - right, y1: y(count), y2: y(count) }),
      svg("text", { x: left - 8, y: y(count) + 4, "text-anchor": "end" }, count.toLocaleString("en")),
    ];
    const mark = ([text, bin, anchor]) => svg("text", { x: x(bin), y: tall - 8, "text-anchor": anchor }, text);
    const line = ({ stream, histogram }, i) =>
      svg("path", {
        class: `line ${Page.figures.hue(stream)}`,
        d: steps({ histogram }),
        "stroke-dasharray": DASHES[i % DASHES.length],
      });

    function area(bin) {
      const label = lines
        .map(
          ({ stream, histogram }) =>
            `${stream} ${number(histogram.edges[bin])} to ${number(histogram.edges[bin + 1])}: ${histogram.counts[bin]}`,
        )
        .join("; ");
      const button = svg(
        "rect.bin",
        {
          x: x(bin),
          y: 8,
          width: x(1) - left,
          height: tall - bottom - 8,
          tabindex: 0,
          role: "button",
          "aria-pressed": String(bin === chosen),
          "aria-label": label,
        },
        svg("title", label),
      );
      button.addEventListener("click", () => choose(bin));
      button.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(bin);
      });
      return button;
    }

    return svg(
      "svg.values",
      { viewBox: `0 0 ${wide} ${tall}`, role: "group", "aria-label": "Histogram of values; each bin is a button" },
      [0, 1, 10, 100, 1000, 10000, 100000, 1000000].filter((count) => count <= most).map(level),
      [
        ["0", 0, "start"],
        ["half of the largest value", bins / 2, "middle"],
        ["largest", bins, "end"],
      ].map(mark),
      lines.map(line),
      Array.from({ length: bins }, (_, bin) => area(bin)),
    );
  }

  return { counts, bars, values };
})();
