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
    const { report, select } = choice("Report", reports, params);
    const stream = params.get("stream") ?? "";
    main.append(
      h(
        "div.list-head",
        h("h1", "Bias"),
        h(
          "div.actions",
          select,
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
      report.smallest ? h("p.help", words(report.smallest, 800)) : null,
      associations(report, stream),
      pairs(report),
    );
  }

  /** The report that the address asks for, and the field that selects another one: null where there is no other. */
  function choice(label, reports, params) {
    const at = Math.min(reports.length - 1, Math.max(0, Number(params.get("report")) || 0));
    const options = reports.map((one, i) => [String(i), one.name]);
    return {
      report: reports[at],
      select: picker(label, options, String(at), (value) => Page.route.set({ report: value })),
    };
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

  /** The latents that were tested, the most certain first, as the table has them. */
  function associations(report, stream) {
    const all = report.associations.filter((one) => !stream || one.stream === stream);
    const associated = all.filter((one) => one.associated).length;
    const ends = all.flatMap((one) => [one.low, one.high, one.effect]).filter(Number.isFinite);
    const most = ends.reduce((largest, end) => Math.max(largest, Math.abs(end)), 1);
    const item = (one) =>
      h(
        "li",
        { class: one.associated ? "" : "is-given" },
        Page.cards.link(one.latent, { name: one.name, pictures: 4 }, Page.figures.stream(one.stream)),
        effect(one, one.effect, [-most, most]),
      );
    const help = `${plural(associated, "latent")} associated of ${count(all.length)} tested. Effect: log2 odds ratio; 0 is none, 1 is twice the odds. Whisker: 95 % interval.`;
    return h(
      "section.panel",
      h("h2", "Latents that go with it"),
      h("p.help", help),
      all.length ? h("ul.associations", all.slice(0, SHOWN).map(item)) : h("p.empty", "No latent was tested."),
      all.length > SHOWN
        ? h("p.help", `The first ${SHOWN} of ${count(all.length)}; the table of sparc-analyze bias has all.`)
        : null,
    );
  }

  /** An effect with its interval, q, and the images behind it. */
  function effect(one, value, range) {
    const controls = [{ name: "no effect", value: 0 }];
    const images = `${count(one.images_with)} with, ${count(one.images_without)} without`;
    return h(
      "div.measured",
      h("b", number(value, 2)),
      Page.figures.bar({ value, low: one.low, high: one.high, range, stream: one.stream, label: "effect", controls }),
      h("small", Number.isFinite(one.q) ? `q ${number(one.q)} · ${images}` : images),
    );
  }

  /** Pairs of latents that go with the attribute together more than each alone. */
  function pairs(report) {
    if (!report.pairs.length) return null;
    const most = report.pairs.reduce((largest, one) => Math.max(largest, Math.abs(one.interaction ?? 0)), 1);
    const item = (one) =>
      h(
        "li",
        h(
          "div.two",
          Page.cards.link(one.first, { name: one.first_name }, Page.figures.stream(one.stream)),
          Page.cards.link(one.second, { name: one.second_name }, Page.figures.stream(one.stream)),
        ),
        effect(one, one.interaction, [-most, most]),
      );
    return h(
      "section.panel",
      h("h2", "Pairs of latents"),
      h(
        "p.help",
        "Active together, with the attribute and without. Interaction: log2 of how much more than the two alone would have it.",
      ),
      h("ul.associations", report.pairs.slice(0, SHOWN).map(item)),
    );
  }

  return { draw, choice };
})();
