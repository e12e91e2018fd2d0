"use strict";
/** A latent as a card: a row of pictures a stream, its name, its number. Cards load the details when they are near. */
Page.cards = (() => {
  const { h, words, plural, percent } = Page.dom;
  const SHOWN = 4;

  /** @param {URLSearchParams} listing the list that the latent's page will step through */
  function card(latent, listing) {
    const { concepts } = Page;
    const pictures = h("span.card-pictures.loading");
    const labels = concepts.labels(latent);
    near.observe(pictures);
    waiting.set(pictures, () => fill(pictures, latent));
    return h(
      "a.card",
      { href: Page.route.link("latent", latent, listing), "data-latent": latent },
      pictures,
      h(
        "span.card-name",
        labels.length ? words(concepts.title(latent), 40, "b") : h("b.unnamed", `latent ${latent}`),
        h("small", `#${latent}`),
      ),
    );
  }

  async function fill(place, latent) {
    const detail = await Page.data.detail(latent).catch(() => null);
    place.classList.remove("loading");
    if (!detail) return;
    const own = detail.modes.independent ?? detail.modes.joint ?? {};
    for (const stream of Page.concepts.names()) {
      const top = own[stream]?.top?.slice(0, SHOWN) ?? [];
      place.append(
        h(
          "span",
          { class: `card-row ${Page.figures.hue(stream)}` },
          h("i.dot", { title: stream }),
          top.length ? shown(detail, own[stream], top) : h("span.card-none", `not in ${Page.dom.clean(stream, 30)}`),
        ),
      );
    }
  }

  /** Pictures; of a site without any, how often the latent is active. */
  function shown(detail, own, top) {
    if (detail.sprite) return top.map(([row]) => Page.pictures.picture(detail, row));
    return h("span.card-none", `${plural(own.rows, "row")}, ${percent(own.frequency)}`);
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

  return { card };
})();
