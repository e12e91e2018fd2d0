"use strict";
/** The map of latents: near is alike. A lasso makes a list of what it holds. */
Page.map = (() => {
  const { h, words, button, plural, count } = Page.dom;

  async function draw(main) {
    const points = await Page.places.load();
    if (!points) throw new Page.Missing("This site has no map.");
    const { params } = Page.route.read();
    const question = Page.query.parse(params);
    const kept = new Set(await Page.query.answer({ ...question, lasso: "" }));
    const lasso = question.lasso ? Page.places.corners(question.lasso) : [];
    const shown = h("aside.hovered", { "aria-live": "polite" });
    const rest = () =>
      Page.dom.replace(
        shown,
        h(
          "p.help",
          "Point at a latent to see its pictures; click to open it. With the lasso, drag around latents to list them.",
        ),
      );
    const scatter = Page.scatter.create(points, {
      kept: (latent) => kept.has(latent),
      hue: colour,
      lasso,
      hover: (latent) =>
        latent === null ? null : Page.dom.replace(shown, Page.cards.card(latent, Page.route.listing()), who(latent)),
      open: (latent) => Page.route.go("latent", latent, Page.route.listing()),
      chosen: (corners) => Page.route.set({ lasso: Page.places.text(corners), tool: "lasso" }),
    });
    const tools = h(
      "div.choice",
      { role: "group", "aria-label": "Tool" },
      [
        ["pan", "Move"],
        ["lasso", "Lasso"],
      ].map(([tool, label]) =>
        button(
          label,
          (event) => {
            scatter.tool(tool);
            for (const one of tools.children) one.setAttribute("aria-pressed", String(one === event.currentTarget));
          },
          { "aria-pressed": String(tool === (params.get("tool") ?? "pan")), "data-tool": tool },
        ),
      ),
    );
    scatter.tool(params.get("tool") === "lasso" ? "lasso" : "pan");
    rest();
    Page.map.keys = {
      Escape: () => {
        scatter.reset();
        rest();
      },
    };
    const held = question.lasso ? (await Page.query.answer(question)).length : null;
    main.append(
      h(
        "div.list-head",
        h("h1", "Map"),
        h(
          "p.counts",
          { role: "status" },
          `${count([...points.latents].filter((latent) => kept.has(latent)).length)} of ${plural(points.latents.length, "latent")}`,
          held === null ? "" : [", ", h("b", count(held)), " in the lasso"],
        ),
        h(
          "div.actions",
          tools,
          button("+", () => scatter.zoom(1.4), { "aria-label": "zoom in" }),
          button("−", () => scatter.zoom(1 / 1.4), { "aria-label": "zoom out" }),
          button("Reset", () => scatter.reset()),
          held === null
            ? null
            : [
                button("Remove lasso", () => Page.route.set({ lasso: null })),
                h(
                  "a.button.primary",
                  { href: Page.route.link("latents", "", Page.route.listing()) },
                  `List these ${count(held)}`,
                ),
              ],
        ),
      ),
      h(
        "p.help",
        words(points.method, 160),
        points.stream ? [", of ", Page.figures.stream(points.stream)] : null,
        ". Distances within a cluster mean more than between clusters.",
      ),
      h("div.map-body", scatter.element, h("div.map-side", legend(), shown)),
    );
  }

  /** The property with the colour of a latent: that of the only stream that has it, the accent where all share it. */
  function colour(latent) {
    if (Page.concepts.value("shared", latent) === 1) return "--accent";
    const only = Page.concepts.text("only", latent).split(", ")[0];
    const place = only ? Page.concepts.place(only) : -1;
    return place < 0 ? "--mute" : `--stream-${place % 6}`;
  }

  function legend() {
    const entry = (kind, label) => h("li", h("i", { class: `dot ${kind}` }), label);
    const several = Page.concepts.names().length > 1 && Page.concepts.has("shared");
    return h(
      "ul.legend",
      several
        ? [
            entry("accent", "shared by all"),
            Page.concepts.names().map((name) => entry(Page.figures.hue(name), h("span", "only ", words(name, 30)))),
            entry("mute", "other"),
          ]
        : entry("mute", "latent"),
    );
  }

  const who = (latent) => h("p.help", `${count(Page.concepts.value("rows", latent))} rows`);

  return { draw, keys: {} };
})();
