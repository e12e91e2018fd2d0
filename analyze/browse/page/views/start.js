"use strict";
/** The first page: what the report is about, three doors with pictures, figures with their controls, the list's beginning. */
Page.start = (() => {
  const { h, words, plural, count, listed, clean } = Page.dom;
  const CARDS = 4;
  const LEADING = 6;

  async function draw(main) {
    const { report, streams, headlines } = Page.data.index();
    const names = streams.map((stream) => clean(stream.name, 40));
    main.append(
      h(
        "section.hero",
        h("h1", heading(names)),
        h(
          "p.lead",
          `${plural(report.latents, "latent")} of one sparse dictionary, each a concept that ${streams.length > 1 ? "the models may share" : "the model may hold"}, seen on `,
          plural(report.images, "image"),
          report.rows === report.images ? "" : ` (${plural(report.rows, "row")})`,
          ".",
        ),
        h(
          "ul.streams",
          streams.map((stream) =>
            h(
              "li",
              Page.figures.stream(stream.name),
              h("small", { title: clean(stream.encoder, 300) }, encoder(stream)),
            ),
          ),
        ),
      ),
      await doors(streams),
      figures(headlines),
      await beginning(),
    );
  }

  function heading(names) {
    if (names.length === 1) return `What ${names[0]} knows`;
    return `What ${names.length > 4 ? `${names.length} models` : listed(names)} have in common`;
  }

  /** What a stream's features are, without the place of the weights. */
  function encoder({ encoder: spec, modality, dim }) {
    const name = spec.split(/[@?]/)[0].split(/[\\/]/).at(-1);
    return [name && [words(name, 50), " · "], modality, ` · ${count(dim)} dimensions`];
  }

  /** The doors to what all share, what one has, what one lacks; with a single stream, to its clearest concepts. */
  async function doors(streams) {
    if (streams.length < 2) {
      return door(
        "The clearest concepts",
        "Latents whose images are most alike, for how often they are active.",
        new URLSearchParams(),
        "door wide",
      );
    }
    const all = streams.length === 2 ? "both models" : "all models";
    const made = [
      await door(
        `What ${all} share`,
        `Active on the same images in ${streams.length === 2 ? "both streams" : "every stream"}, more than mispaired latents are.`,
        new URLSearchParams({ is: "shared" }),
        "door",
      ),
    ];
    made.push(
      await door(
        "What only one has",
        "Active in one stream; no other has it, on this latent or on another. One latent may be two concepts, one in each of two streams.",
        new URLSearchParams({ is: "only" }),
        "door",
        streams,
      ),
    );
    if (streams.length > 2) {
      made.push(
        await door(
          "What one lacks",
          "Shared by all streams but one.",
          new URLSearchParams({ is: "lacking" }),
          "door",
          streams,
        ),
      );
    }
    return h("section.doors", { "aria-label": "Ways in" }, made);
  }

  async function door(title, help, params, kind, streams = []) {
    const latents = await Page.query.answer(Page.query.parse(params));
    const by = await Promise.all(
      streams.map(async ({ name }) => {
        const one = new URLSearchParams({ ...Object.fromEntries(params), stream: name });
        const { length } = await Page.query.answer(Page.query.parse(one));
        return h(
          "li",
          h("a", { href: Page.route.link("latents", "", one) }, Page.figures.stream(name), h("b", count(length))),
        );
      }),
    );
    const named = latents.filter((latent) => Page.concepts.naming(latent, params.get("is"))?.kind === "name");
    const best = [...new Set([...named, ...latents])];
    const first = streams.length ? spread(best, streams, params.get("is")) : best.slice(0, CARDS);
    const naming = latents.length > named.length ? ` ${count(named.length)} of them have a name.` : "";
    return h(
      "section",
      { class: kind },
      h(
        "h2",
        h("a", { href: Page.route.link("latents", "", params) }, title),
        h("span.count", " ", count(latents.length)),
      ),
      h("p.help", help, latents.length && Page.data.index().report.captions ? naming : ""),
      by.length ? h("ul.by-stream", by) : null,
      first.length
        ? h(
            "div.cards",
            first.map((latent) => Page.cards.card(latent, params)),
          )
        : h("p.empty", "None in this report."),
      latents.length
        ? h("a.more", { href: Page.route.link("latents", "", params) }, `See all ${count(latents.length)}`)
        : null,
    );
  }

  /** The first latents of every stream in turn, so that no stream takes all cards. */
  function spread(latents, streams, key) {
    const { concepts } = Page;
    const queues = streams.map(({ name }) =>
      latents.filter((latent) => concepts.listed(concepts.text(key, latent), name)),
    );
    const chosen = new Set();
    for (let turn = 0; chosen.size < CARDS && queues.some((queue) => turn < queue.length); turn += 1) {
      for (const queue of queues) if (turn < queue.length && chosen.size < CARDS) chosen.add(queue[turn]);
    }
    return [...chosen];
  }

  function figures(headlines) {
    if (!headlines.length) return null;
    const sections = new Map();
    for (const figure of headlines) sections.set(figure.section, [...(sections.get(figure.section) ?? []), figure]);
    const leading = [...sections.values()]
      .map((all) => all.find(leads) ?? all.find(measured))
      .filter(Boolean)
      .slice(0, LEADING);
    return h(
      "section.figures",
      h("h2", "Figures, with what they must exceed"),
      h(
        "p.help",
        "Bar: the figure, with its 95 % interval. ",
        h("i.tick-key"),
        " a control: the same measured on an untrained model, on permuted rows or on mispaired latents. Only what exceeds these was learnt, or what stays below them where lower is better.",
      ),
      h(
        "div.headlines",
        leading.map((figure) => Page.figures.headline(figure, { explained: true })),
      ),
      h(
        "details.all-figures",
        h("summary", `All ${count(headlines.length)} figures`),
        [...sections].map(([name, all]) =>
          h(
            "section",
            h("h3", words(sentence(name), 60)),
            explanations(all),
            h(
              "div.headlines",
              all.map((figure) => Page.figures.headline(figure)),
            ),
          ),
        ),
      ),
    );
  }

  /** Learnt, of all streams, and measured; the best to lead with has a control, too. */
  const measured = (figure) => !figure.given && !figure.stream && Number.isFinite(figure.value);
  const leads = (figure) => measured(figure) && figure.controls.length > 0;

  const explanations = (all) =>
    [...new Set(all.map((figure) => figure.explanation).filter(Boolean))].map((text) => h("p.help", words(text, 900)));
  const sentence = (text) => (text === text.toUpperCase() ? text.charAt(0) + text.slice(1).toLowerCase() : text);

  async function beginning() {
    const latents = await Page.query.answer(Page.query.parse(new URLSearchParams()));
    const dead = Page.concepts.total() - latents.length;
    return h(
      "section.beginning",
      h(
        "h2",
        h("a", { href: Page.route.link("latents") }, "All concepts"),
        h("span.count", " ", count(latents.length)),
      ),
      h(
        "p.help",
        `Sorted by interest. ${Page.concepts.column("interest").help} `,
        dead ? `${plural(dead, "dead latent is", "dead latents are")} hidden.` : "",
      ),
      Page.rows.preview(latents.slice(0, 10)),
      h("a.more", { href: Page.route.link("latents") }, `See, sort and filter all ${count(latents.length)}`),
    );
  }

  return { draw };
})();
