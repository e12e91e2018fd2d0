"use strict";
/** Other latents: those that fire together, the nearest decoder rows, the same concept on another latent of another stream. */
Page.latentRelated = (() => {
  const { h, words, number, plural } = Page.dom;

  /** The sections, each a panel or null. */
  const sections = (detail, listing) => [
    bridge(detail, listing),
    together(detail, listing),
    neighbours(detail, listing),
  ];

  const panel = (title, help, streams, entries) =>
    h(
      "section.panel",
      h("h2", title),
      h("p.help", help),
      h(
        "div.by-streams",
        streams.map((stream) => {
          const own = entries.filter((entry) => entry.stream === stream);
          return own.length
            ? h(
                "div",
                Page.figures.stream(stream),
                h(
                  "ul",
                  own.map((entry) => entry.element),
                ),
              )
            : null;
        }),
      ),
    );

  /** A link to another latent with its pictures, its name and why it is here. */
  function link(latent, name, listing, figure, extra) {
    return h(
      "li",
      h(
        "a.other",
        { href: Page.route.link("latent", latent, listing) },
        Page.pictures.strip(latent, 3),
        h(
          "span",
          name || Page.concepts.title(latent)
            ? words(name || Page.concepts.title(latent), 40, "b")
            : h("b.unnamed", "no name"),
          h("small", ` #${latent}`),
          h("br"),
          h("small", figure),
          extra ? [h("br"), extra] : null,
        ),
      ),
    );
  }

  function bridge(detail, listing) {
    const entries = (detail.nearest ?? []).map((one) => ({
      stream: one.stream,
      element:
        one.latent === null
          ? h(
              "li.nowhere",
              "in ",
              Page.figures.stream(one.other),
              h(
                "small",
                one.lacking ? " nowhere: no latent is active on the same images" : " no latent to compare with",
              ),
            )
          : link(
              one.latent,
              one.name,
              listing,
              [
                `in ${Page.dom.clean(one.other, 40)}: overlap ${number(one.overlap, 2)}`,
                Number.isFinite(one.limit) ? `, chance reaches ${number(one.limit, 2)}` : "",
              ],
              h(
                "span",
                { class: `badge ${one.lacking ? "thin" : one.latent === detail.latent ? "shared" : "part"}` },
                one.lacking ? "below chance" : one.latent === detail.latent ? "the same latent" : "another latent",
              ),
            ),
    }));
    return entries.length
      ? panel(
          "The same concept in the other streams",
          "For each stream, the latent of another stream whose images overlap most with its own. It may have another number.",
          Page.concepts.names(),
          entries,
        )
      : null;
  }

  function together(detail, listing) {
    const entries = (detail.cofiring ?? []).map((one) => ({
      stream: one.stream,
      element: link(
        one.latent,
        one.name,
        listing,
        [
          plural(one.images_both, "image"),
          Number.isFinite(one.lift) ? `${number(one.lift, 1)}× chance` : "",
          Number.isFinite(one.phi) ? `φ ${number(one.phi, 2)}` : "",
          Number.isFinite(one.q) ? `q ${number(one.q)}` : "",
        ]
          .filter(Boolean)
          .join(" · "),
      ),
    }));
    return entries.length
      ? panel(
          "Fires together with",
          "Latents of the same stream that are active on the same images more often than by chance.",
          Page.concepts.names(),
          entries,
        )
      : null;
  }

  function neighbours(detail, listing) {
    const entries = (detail.neighbours ?? []).map((one) => ({
      stream: one.stream,
      element: link(one.latent, one.name, listing, `cosine ${number(one.cosine, 2)}`),
    }));
    return entries.length
      ? panel(
          "Nearest in the decoder",
          "Latents that write in the most similar direction into the stream's features.",
          Page.concepts.names(),
          entries,
        )
      : null;
  }

  return { sections };
})();
