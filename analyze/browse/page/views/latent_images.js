"use strict";
/** The pictures of a latent: one row a stream, in the same order; pictures that several streams show are outlined alike. */
Page.latentImages = (() => {
  const { h, button, number, percent, plural } = Page.dom;

  function draw(detail, mode, params) {
    const group = params.get("group") ?? "top";
    const streams = Page.concepts.names().filter((name) => Object.hasOwn(detail.modes[mode], name));
    const mapped = detail.maps && Object.values(detail.maps).some((maps) => maps?.length);
    const maps = mapped && params.get("maps") === "1";
    const groups =
      group === "all"
        ? kinds(detail, mode).filter((kind) => kind.key !== "all")
        : kinds(detail, mode).filter((kind) => kind.key === group);
    return h(
      "section.images",
      h(
        "div.section-head",
        h("h2", "Where it is active"),
        h(
          "div.actions",
          streams.length > 1 && Object.keys(detail.modes).length > 1
            ? choice(
                "modes",
                "Selection",
                [
                  ["independent", "Independent"],
                  ["joint", "Joint"],
                ],
                mode,
                (value) => Page.route.set({ mode: value }),
              )
            : null,
          choice(
            "groups",
            "Which images",
            kinds(detail, mode).map(({ key, label }) => [key, label]),
            group,
            (value) => Page.route.set({ group: value }),
          ),
          mapped
            ? button(maps ? "Heat maps on" : "Heat maps off", () => Page.route.set({ maps: maps ? null : "1" }), {
                "aria-pressed": String(maps),
              })
            : null,
        ),
      ),
      h(
        "p.help",
        mode === "joint"
          ? [
              Page.figures.given(),
              " All streams select the same latents of a row together, so that their pictures agree in part by construction.",
            ]
          : "Every stream selects its own latents. ",
        mode === "joint" || streams.length < 2
          ? null
          : [h("i.outline-key"), " outlined: a picture that several streams show."],
        maps ? [" ", Page.pictures.scale()] : null,
      ),
      groups.map((kind) => panel(detail, mode, streams, kind, groups.length > 1, maps)),
    );
  }

  /** Groups of pictures that the site has: the strongest, and those near quantiles of the values. */
  function kinds(detail, mode) {
    const ats = new Set(
      Object.values(detail.modes[mode]).flatMap((own) =>
        own.quantiles.filter((one) => one.examples.length).map((one) => one.at),
      ),
    );
    const quantiles = [...ats]
      .sort((a, b) => b - a)
      .map((at) => ({
        key: String(at),
        label: at === 0.5 ? "Median" : `Near ${Math.round(at * 100)}%`,
        help: `pictures near the ${Math.round(at * 100)} % quantile of the values on active images`,
        of: (own) => own.quantiles.find((one) => one.at === at)?.examples ?? [],
      }));
    const top = { key: "top", label: "Top", help: "the strongest", of: (own) => own.top };
    return quantiles.length ? [top, ...quantiles, { key: "all", label: "All" }] : [top];
  }

  function choice(id, label, options, now, choose) {
    if (options.length < 2) return null;
    return h(
      "div.choice",
      { id, role: "group", "aria-label": label },
      options.map(([value, text]) => button(text, () => choose(value), { "aria-pressed": String(value === now) })),
    );
  }

  function panel(detail, mode, streams, kind, headed, maps) {
    const shown = streams.map((stream) => ({ stream, examples: kind.of(detail.modes[mode][stream]) }));
    const counts = new Map();
    for (const { examples } of shown) {
      for (const one of new Set(examples.map(([place]) => Page.pictures.identity(detail.rows[place]))))
        counts.set(one, (counts.get(one) ?? 0) + 1);
    }
    const panelOf = h(
      "div.stream-rows",
      headed ? h("h3", kind.label, h("small", ` ${kind.help}`)) : null,
      shown.map(({ stream, examples }) => line(detail, mode, stream, examples, counts, maps)),
    );
    alike(panelOf);
    return panelOf;
  }

  /** The pictures of one stream. */
  function line(detail, mode, stream, examples, counts, maps) {
    const own = detail.modes[mode][stream];
    const text = Page.concepts.streams().find((one) => one.name === stream).modality === "text";
    const series = examples.map(([place, value]) => ({ place, value, stream }));
    const items = series.map((_, at) => item(detail, series, at, { counts, text, mode, maps }));
    const images = own.images === null ? "" : `${plural(own.images, "image")} · `;
    return h(
      "div",
      { class: `stream-row ${Page.figures.hue(stream)}` },
      h(
        "div.stream-label",
        Page.figures.stream(stream),
        h("small", `${images}${percent(own.frequency)} of rows`),
        own.rows ? h("small", `mean ${number(own.mean, 2)}, largest ${number(own.largest, 2)}`) : null,
      ),
      items.length ? h("ol.tiles", items) : h("p.empty", own.rows ? "No example here." : "Not active in this stream."),
    );
  }

  function item(detail, series, at, { counts, text, mode, maps }) {
    const { place } = series[at];
    const row = detail.rows[place];
    const picture = Page.pictures.identity(row);
    const several = counts.get(picture) > 1;
    const attributes = {
      class: several ? "shot several" : "shot",
      title: several ? `${counts.get(picture)} streams show this picture` : null,
      "data-picture": picture,
      "data-row": row.row,
    };
    const caption = text && row.caption && row.tile >= 0;
    return h(
      "li",
      Page.zoom.shot(detail, series, at, { maps, ...attributes }),
      caption ? h("p.caption", Page.pictures.marked(row.caption, detail, mode, 140)) : null,
    );
  }

  /** Pointing at a picture marks it in all rows. */
  function alike(element) {
    const mark = (target, on) => {
      const picture = target.closest?.("[data-picture]")?.dataset.picture;
      for (const shot of element.querySelectorAll("[data-picture]"))
        shot.classList.toggle("pointed", on && shot.dataset.picture === picture);
    };
    element.addEventListener("pointerover", (event) => mark(event.target, true));
    element.addEventListener("pointerleave", (event) => mark(event.target, false));
    element.addEventListener("focusin", (event) => mark(event.target, true));
  }

  return { draw };
})();
