"use strict";
/** Bias reports: which latents go with an attribute of images, by effect and q, with the smallest effect that could be seen. */
Page.bias = (() => {
  const { h, words, count, number, plural } = Page.dom;
  const SHOWN = 60;

  async function draw(main) {
    if (!Page.data.index().views.bias)
      throw new Page.Missing("This site has no bias reports: make it again with --bias ATTRIBUTE.");
    const { reports } = await Page.data.load("bias");
    const { params } = Page.route.read();
    const at = Math.min(reports.length - 1, Math.max(0, Number(params.get("report")) || 0));
    const report = reports[at];
    const stream = params.get("stream") ?? "";
    main.append(
      h(
        "div.list-head",
        h("h1", "Bias"),
        h(
          "div.actions",
          picker(
            "Report",
            reports.map((one, i) => [String(i), one.name]),
            String(at),
            (value) => Page.route.set({ report: value }),
          ),
          picker(
            "Stream",
            [["", "all streams"], ...Page.concepts.names().map((name) => [name, name])],
            stream,
            (value) => Page.route.set({ stream: value }),
          ),
        ),
      ),
      h(
        "p.lead",
        words(report.attribute, 80, "b"),
        report.against ? [" against ", words(report.against, 80, "b")] : null,
        `: ${plural(report.images_with, "image")} with it, ${count(report.images_without)} without.`,
      ),
      report.note ? h("p.help", words(report.note, 400)) : null,
      report.smallest ? h("p.help", "Smallest effect that could be seen: ", words(report.smallest, 200)) : null,
      associations(report, stream),
      pairs(report),
    );
  }

  function picker(label, options, now, choose) {
    if (options.length < 2) return null;
    return h(
      "label.field.inline",
      h("span", label),
      h(
        "select",
        { on: { change: (event) => choose(options[event.target.selectedIndex][0]) } },
        options.map(([value, text]) => h("option", { selected: value === now }, Page.dom.clean(text, 60))),
      ),
    );
  }

  function associations(report, stream) {
    const all = report.associations
      .filter((one) => !stream || one.stream === stream)
      .sort((a, b) => Number(b.associated) - Number(a.associated) || Math.abs(b.effect ?? 0) - Math.abs(a.effect ?? 0));
    const found = all.filter((one) => one.associated).length;
    const most = Math.max(
      1,
      ...all
        .flatMap((one) => [Math.abs(one.low ?? 0), Math.abs(one.high ?? 0), Math.abs(one.effect ?? 0)])
        .filter(Number.isFinite),
    );
    return h(
      "section.panel",
      h("h2", "Latents that go with it"),
      h(
        "p.help",
        `${plural(found, "latent")} associated of ${count(all.length)} tested. Effect: log2 odds ratio, 0 is none, 1 is twice the odds; whisker: 95 % interval.`,
      ),
      all.length
        ? h(
            "ul.associations",
            all.slice(0, SHOWN).map((one) =>
              h(
                "li",
                { class: one.associated ? "" : "is-given" },
                h(
                  "a.other",
                  { href: Page.route.link("latent", one.latent) },
                  Page.pictures.strip(one.latent, 4),
                  h(
                    "span",
                    one.name ? words(one.name, 40, "b") : h("b.unnamed", "no name"),
                    h("small", ` #${one.latent}`),
                    h("br"),
                    Page.figures.stream(one.stream),
                  ),
                ),
                h(
                  "div.measured",
                  h("b", number(one.effect, 2)),
                  Page.figures.bar({
                    value: one.effect,
                    low: one.low,
                    high: one.high,
                    range: [-most, most],
                    stream: one.stream,
                    label: "effect",
                    controls: [{ name: "no effect", value: 0 }],
                  }),
                  h(
                    "small",
                    [
                      Number.isFinite(one.q) ? `q ${number(one.q)}` : "",
                      `${count(one.images_with)} with, ${count(one.images_without)} without`,
                    ]
                      .filter(Boolean)
                      .join(" · "),
                  ),
                ),
              ),
            ),
          )
        : h("p.empty", "No latent was tested."),
      all.length > SHOWN
        ? h("p.help", `The first ${SHOWN} of ${count(all.length)}; the table of sparc-analyze bias has all.`)
        : null,
    );
  }

  /** Whether the streams differ in this, each pair. */
  function pairs(report) {
    if (!report.pairs?.length) return null;
    const keys = [...new Set(report.pairs.flatMap(Object.keys))];
    const text = (value) =>
      typeof value === "number"
        ? number(value)
        : value === true
          ? "yes"
          : value === false
            ? "no"
            : value === null || value === undefined
              ? "–"
              : words(value, 60);
    return h(
      "section.panel",
      h("h2", "Pairs"),
      h(
        "div.wide-table",
        h(
          "table",
          h(
            "thead",
            h(
              "tr",
              keys.map((key) => h("th", words(key.replaceAll("_", " "), 40))),
            ),
          ),
          h(
            "tbody",
            report.pairs.slice(0, 200).map((pair) =>
              h(
                "tr",
                keys.map((key) =>
                  h(
                    "td",
                    ["first", "second", "latent"].includes(key) && Number.isInteger(pair[key])
                      ? h("a", { href: Page.route.link("latent", pair[key]) }, `#${pair[key]}`)
                      : text(pair[key]),
                  ),
                ),
              ),
            ),
          ),
        ),
      ),
    );
  }

  return { draw, picker };
})();
