"use strict";
/** A latent as a card: a row of pictures a stream, its name, its number. Cards load the details when they are near. */
Page.cards = (() => {
  const { h, words, percent } = Page.dom;
  const SHOWN = 4;

  /**
   * Streams that do not have the concept stand back, in a list of what one has or lacks.
   * @param {URLSearchParams} listing the list that the latent's page will step through
   */
  function card(latent, listing) {
    const pictures = h("span.card-pictures.loading");
    near.observe(pictures);
    waiting.set(pictures, () => fill(pictures, latent, listing.get("is")));
    return h(
      "a.card",
      { href: Page.route.link("latent", latent, listing), "data-latent": latent },
      pictures,
      h("span.card-name", name(latent, listing.get("is")), h("small", `#${latent}`)),
    );
  }

  /** A latent's name; a guess and a class are not in bold, for they say less. */
  function name(latent, kind) {
    const naming = Page.concepts.naming(latent, kind);
    if (!naming) return h("span.unnamed", "no name");
    if (naming.kind === "name") return words(naming.text, 40, "b");
    const why =
      naming.kind === "guess" ? "guess" : `class${Number.isFinite(naming.share) ? `, ${percent(naming.share)}` : ""}`;
    const title =
      naming.kind === "guess"
        ? "few images support this name"
        : "no name: its most frequent class, and the share of its rows";
    return h("span.weak", words(naming.text, 40), h("small", { title }, ` ${why}`));
  }

  async function fill(place, latent, kind) {
    const detail = await Page.data.detail(latent).catch(() => null);
    place.classList.remove("loading");
    if (!detail) return;
    const own = detail.modes.independent ?? detail.modes.joint ?? {};
    for (const stream of Page.concepts.names()) {
      const without = !Page.concepts.having(latent, kind).includes(stream);
      place.append(
        h(
          "span",
          {
            class: `card-row ${Page.figures.hue(stream)}${without ? " faint" : ""}`,
            title: without ? `${stream} does not have it` : stream,
          },
          h("i.dot"),
          shown(detail, stream, own[stream]),
        ),
      );
    }
  }

  /** The strongest pictures of a stream; where there are none, what is known of the strongest one. */
  function shown(detail, stream, own) {
    if (!own?.top.length) return h("span.card-none", `not in ${Page.dom.clean(stream, 30)}`);
    if (!detail.sprite)
      return words(Page.pictures.described(detail.rows[own.top[0][0]]), 80, "span", { class: "card-text" });
    return own.top.slice(0, SHOWN).map(([row]) => Page.pictures.picture(detail, row));
  }

  /** A short link to a latent: pictures, name, number, and lines that say why it is there. */
  function link(latent, { name: given = "", listing, pictures = 3 }, ...lines) {
    return h(
      "a.other",
      { href: Page.route.link("latent", latent, listing) },
      Page.pictures.strip(latent, pictures),
      h(
        "span",
        given ? words(given, 40, "b") : name(latent),
        h("small", ` #${latent}`),
        lines.filter(Boolean).map((line) => h("span.why", line)),
      ),
    );
  }

  const waiting = new WeakMap();
  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        waiting.get(target)?.();
      }
    },
    { rootMargin: "300px" },
  );

  return { card, link };
})();
