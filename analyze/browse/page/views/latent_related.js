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
    const entries = (detail.nearest ?? []).map((one) => ({
      stream: one.stream,
      element: h("li", counterpart(detail, one, listing)),
    }));
    const help =
      "For each stream, the latent of another stream whose images overlap most with its own. It may have another number.";
    return panel("The same concept in the other streams", help, entries);
  }

  function counterpart(detail, one, listing) {
    if (one.latent === null) {
      const why = one.lacking ? " nowhere: no latent is active on the same images" : " no latent to compare with";
      return h("span.nowhere", "in ", Page.figures.stream(one.other), h("small", why));
    }
    const same = one.latent === detail.latent;
    const limit = Number.isFinite(one.limit) ? `, chance reaches ${number(one.limit, 2)}` : "";
    const verdict = one.lacking
      ? ["thin", "below chance"]
      : same
        ? ["shared", "the same latent"]
        : ["part", "another latent"];
    return Page.cards.link(
      one.latent,
      { name: one.name, listing },
      h("small", `in ${Page.dom.clean(one.other, 40)}: overlap ${number(one.overlap, 2)}${limit}`),
      h("span", { class: `badge ${verdict[0]}` }, verdict[1]),
    );
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
    const entries = (detail.cofiring ?? []).map((one) => ({ stream: one.stream, element: entry(one) }));
    return panel(
      "Fires together with",
      "Latents of the same stream that are active on the same images more often than by chance.",
      entries,
    );
  }

  function neighbours(detail, listing) {
    const entry = (one) =>
      h("li", Page.cards.link(one.latent, { name: one.name, listing }, h("small", `cosine ${number(one.cosine, 2)}`)));
    const entries = (detail.neighbours ?? []).map((one) => ({ stream: one.stream, element: entry(one) }));
    return panel(
      "Nearest in the decoder",
      "Latents that write in the most similar direction into the stream's features.",
      entries,
    );
  }

  return { sections };
})();
