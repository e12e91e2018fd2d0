"use strict";
/** The page of a latent: its head, and the sections that the other latent_*.js draw. */
Page.latent = (() => {
  const { h, words, button, count, listed, clean } = Page.dom;

  /** What a title says that is no name with support. */
  const LESS = { guess: "a guess: few images support this name", class: "no name; this is its most frequent class" };

  async function draw(main, id) {
    const latent = Number(id);
    if (!/^\d+$/.test(id) || latent >= Page.concepts.total()) {
      throw new Page.Missing(
        `There is no latent ${clean(id, 20)}: this report has latents 0 to ${Page.concepts.total() - 1}.`,
      );
    }
    const { params } = Page.route.read();
    const listing = Page.route.listing(params);
    const [latents, detail] = await Promise.all([
      Page.query.answer(Page.query.parse(params)),
      Page.data.detail(latent),
    ]);
    const at = latents.indexOf(latent);
    Page.latent.keys = steps(latents, at, listing);
    main.append(steering(latents, at, listing, latent), head(latent, detail));
    if (!detail) {
      main.append(h("p.empty", "This latent is dead: no stream selects it on any row of this report."));
      return;
    }
    const mode = chosenMode(detail, params);
    main.append(
      Page.latentImages.draw(detail, mode, params),
      h("div.panels", Page.latentEvidence.sections(detail, mode, params), Page.latentRelated.sections(detail, listing)),
      notes(latent),
    );
  }

  function chosenMode(detail, params) {
    const asked = Page.concepts.names().length < 2 ? "" : params.get("mode"); // one stream selects alone
    return Object.hasOwn(detail.modes, asked ?? "")
      ? asked
      : Object.hasOwn(detail.modes, "independent")
        ? "independent"
        : Object.keys(detail.modes)[0];
  }

  function steps(latents, at, listing) {
    const go = (step) => {
      const next = at < 0 ? latents[0] : latents[at + step];
      if (next !== undefined) location.hash = Page.route.link("latent", next, carried(listing));
    };
    return {
      ArrowLeft: () => go(-1),
      ArrowRight: () => go(1),
      k: () => go(-1),
      j: () => go(1),
      m: () => document.querySelector("#modes button[aria-pressed=false]")?.click(),
      b: () => document.querySelector("#mark")?.click(),
    };
  }

  /** What stays as it is from latent to latent: the list, the mode, the group, heat maps. */
  function carried(listing) {
    const kept = new URLSearchParams(listing);
    for (const key of ["mode", "group", "maps"]) {
      const value = Page.route.read().params.get(key);
      if (value) kept.set(key, value);
    }
    return kept;
  }

  function steering(latents, at, listing, latent) {
    const to = (other, label, hint) =>
      other === undefined
        ? h("span.step.off", { "aria-disabled": "true" }, label)
        : h("a.step", { href: Page.route.link("latent", other, carried(listing)), title: hint }, label);
    return h(
      "nav.steering",
      { "aria-label": "Through the list" },
      h("a", { href: Page.route.link("latents", "", listing) }, "‹ List"),
      h("span.where", at < 0 ? "not in this list" : `${count(at + 1)} of ${count(latents.length)}`),
      to(at > 0 ? latents[at - 1] : undefined, "‹ Previous", "arrow left"),
      to(at < 0 ? latents.find((one) => one !== latent) : latents[at + 1], "Next ›", "arrow right"),
    );
  }

  function head(latent, detail) {
    const { concepts } = Page;
    const naming = concepts.naming(latent);
    const mark = button(
      "",
      () => {
        Page.keep.set(latent, { marked: !Page.keep.get(latent).marked });
        paint();
      },
      { id: "mark", class: "mark" },
    );
    const paint = () => {
      const on = Page.keep.get(latent).marked;
      mark.textContent = on ? "★ Bookmarked" : "☆ Bookmark";
      mark.setAttribute("aria-pressed", String(on));
    };
    paint();
    const { location } = Page.data.index().report;
    const command = `sparc-analyze show ${quoted(location)} --latent ${latent}`;
    return h(
      "header.latent-head",
      h(
        "div",
        h("p.eyebrow", `Latent ${latent}`, naming && naming.kind !== "name" ? ` · ${LESS[naming.kind]}` : ""),
        h("h1", { class: naming?.kind ?? "" }, naming ? words(naming.text, 60) : `Latent ${latent}`),
        detail ? h("p.verdict", verdict(detail)) : null,
      ),
      h(
        "div.actions",
        mark,
        button("Copy command", () => Page.dom.copy(command), { title: command }),
        detail
          ? button("JSON", () =>
              Page.dom.save(`latent-${latent}.json`, JSON.stringify(detail, null, 1), "application/json"),
            )
          : null,
      ),
    );
  }

  /** A name for a POSIX shell. */
  const quoted = (text) => (/^[\w./:@%+=,~-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`);

  /** Who has the concept. A latent may be two: one that a stream alone has, and one that it lacks. */
  function verdict(detail) {
    const all = Page.concepts.names();
    const rare = detail.thin ? [badge("thin", "rare"), words(detail.thin, 200)] : [];
    if (all.length < 2) return rare;
    if (detail.shared) {
      const names = listed(all.map((name) => clean(name, 40)));
      return [
        badge("shared", `shared by ${all.length === 2 ? "both" : "all"}`),
        `active on the same images in ${names}, beyond chance`,
      ];
    }
    if (detail.only.length && detail.lacking.length) return [...twoConcepts(detail, all), ...rare];
    const said = [];
    if (detail.only.length)
      said.push(
        badge("only", "only in"),
        detail.only.map(Page.figures.stream),
        "which no other stream has, here or on another latent",
      );
    if (detail.lacking.length)
      said.push(badge("lacking", "lacking in"), detail.lacking.map(Page.figures.stream), "which the others share");
    said.push(...rare);
    if (said.length) return said;
    const pairs = detail.pairs.filter((pair) => pair.shared);
    if (!pairs.length)
      return [badge("part", "not shared"), "no pair of streams is active on the same images beyond chance"];
    const named = pairs.map((pair) => `${clean(pair.first, 30)} and ${clean(pair.second, 30)}`);
    return [badge("part", "shared in part"), `by ${listed(named)}`];
  }

  /** Of a latent that a stream has for something of its own, while the others share another thing. */
  function twoConcepts(detail, all) {
    const own = listed(detail.lacking.map((name) => clean(name, 40)));
    const others = listed(all.filter((name) => !detail.lacking.includes(name)).map((name) => clean(name, 40)));
    return [
      badge("only", "only in"),
      badge("lacking", "lacking in"),
      detail.lacking.map(Page.figures.stream),
      `Two concepts share this number: ${own}'s own, which no other stream has; and that of ${others}, which ${own} lacks.`,
    ];
  }

  const badge = (kind, text) => h("span", { class: `badge ${kind}` }, text);

  function notes(latent) {
    const area = h("textarea", {
      id: "note",
      rows: 3,
      maxlength: 10000,
      placeholder: "What you see here. It stays in this browser; Notes exports it.",
    });
    area.value = Page.keep.get(latent).note;
    area.addEventListener("input", () => {
      if (!Page.keep.set(latent, { note: area.value }))
        Page.dom.say("This browser keeps nothing for local files: export your notes before you close the page");
    });
    return h("section.note", h("h2", h("label", { for: "note" }, "Note")), area);
  }

  return { draw, keys: {} };
})();
