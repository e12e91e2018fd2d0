"use strict";
/** Other latents: those that fire together, the nearest decoder rows, the same concept on another latent of another stream. */
Page.latentRelated = (() => {
  const { h, number, plural } = Page.dom;

  /** The sections, each a panel or null. */
  const sections = (detail, listing) => [
    bridge(detail, listing),
    together(detail, listing),
    neighbours(detail, listing),
  ];

  /** A panel with a list a stream; null where nothing is known. */
  function panel(title, help, entries) {
    if (!entries.length) return null;
    const lists = Page.concepts.names().map((stream) => {
      const own = entries.filter((entry) => entry.stream === stream);
      const elements = own.map((entry) => entry.element);
      return own.length ? h("div", Page.figures.stream(stream), h("ul", elements)) : null;
    });
    return Page.latentEvidence.panel(title, help, h("div.by-streams", lists));
  }

  /** Where the latent is not shared: what the other streams have for its concept. */
  function bridge(detail, listing) {
    const entries = detail.nearest.map((one) => ({
      stream: one.stream,
      element: h("li", counterpart(detail, one, listing)),
    }));
    const help =
      "For each stream, the latent of another stream whose images overlap most with its own. It may have another number.";
    return panel("The same concept in the other streams", help, entries);
  }

  function counterpart(detail, one, listing) {
    const [kind, verdict] = judged(detail, one);
    const said = h("span", { class: `badge ${kind}` }, verdict);
    if (one.latent === null) {
      return h(
        "span.nowhere",
        "in ",
        Page.figures.stream(one.other),
        h("small", " no latent is active on one of these images "),
        said,
      );
    }
    const limit = Number.isFinite(one.limit) ? `, must exceed ${number(one.limit, 2)}` : "";
    const overlap = h("small", `in ${Page.dom.clean(one.other, 40)}: overlap ${number(one.overlap, 2)}${limit}`);
    return Page.cards.link(one.latent, { name: one.name, listing }, overlap, said);
  }

  /** What `sparc-analyze show` says of it, too. */
  function judged(detail, { latent, overlap, limit, lacking, other }) {
    if (!Number.isFinite(limit)) return ["part", "unclear: too little is shared to compare with"];
    if (lacking) return ["lacking", `${other} lacks it`];
    if (!(overlap > limit)) return ["part", "too thin to say"];
    if (latent === null) return ["part", "unclear"];
    return latent === detail.latent ? ["shared", "has it, on this latent"] : ["shared", "has it, on another latent"];
  }

  function together(detail, listing) {
    const why = (one) => [
      plural(one.images_both, "image"),
      Number.isFinite(one.lift) ? `${number(one.lift, 1)}× chance` : "",
      Number.isFinite(one.phi) ? `φ ${number(one.phi, 2)}` : "",
      Number.isFinite(one.q) ? `q ${number(one.q)}` : "",
    ];
    const entry = (one) =>
      h(
        "li",
        Page.cards.link(one.latent, { name: one.name, listing }, h("small", why(one).filter(Boolean).join(" · "))),
      );
    const entries = detail.cofiring.map((one) => ({ stream: one.stream, element: entry(one) }));
    return panel(
      "Fires together with",
      "Latents of the same stream that are active on the same images, by their first row, more often than by chance.",
      entries,
    );
  }

  function neighbours(detail, listing) {
    const entry = (one) =>
      h("li", Page.cards.link(one.latent, { name: one.name, listing }, h("small", `cosine ${number(one.cosine, 2)}`)));
    const entries = detail.neighbours.map((one) => ({ stream: one.stream, element: entry(one) }));
    return panel(
      "Nearest in the decoder",
      "Latents that write in the most similar direction into the stream's features.",
      entries,
    );
  }

  return { sections };
})();
