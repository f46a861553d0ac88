// From what is known to what is seen. Text only ever enters the page as text.

import { title } from "./documents.js";

/** An element; `given` are properties, children strings or elements. */
export function element(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else if (name === "class") made.className = value;
    else made[name] = value;
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

/** One document of the tray; `remove` is called by its button. */
export function trayItem(tag, item, remove) {
  const kinds = { text: "Text", pdf: "PDF", image: "Image" };
  const face = item.url
    ? element("img", { class: "face", src: item.url, alt: "" })
    : element("span", { class: "face kind", "aria-hidden": "true" }, kinds[item.kind]);
  const blank = () => face.replaceWith(element("span", { class: "face kind", "aria-hidden": "true" }, kinds[item.kind]));
  if (item.url) face.addEventListener("error", blank);
  const name = title(item);
  const label = `Remove ${name.slice(0, 60)}`;
  return element(
    tag,
    { class: "item" },
    face,
    element("p", { title: name.slice(0, 400) }, element("span", { class: "unseen" }, `${kinds[item.kind]}: `), name.slice(0, 160)),
    element("button", { type: "button", "aria-label": label, title: label, onclick: remove }, "×"),
  );
}

/** A ranking. `side`: {name, documents, results, seconds, tokens, before}; `why(hit, box)` fills a box. */
export function ranking(side, why) {
  return element(
    "section",
    { class: "list", "aria-label": side.name || "Ranking" },
    side.name ? element("header", {}, element("h3", {}, side.name), element("p", {}, cost(side))) : null,
    element("ol", {}, ...side.results.map((hit, place) => line(side, hit, place, why))),
  );
}

/** How long a ranking took, and what it counts. */
export function cost(side) {
  const seconds = side.seconds < 10 ? side.seconds.toFixed(2) : side.seconds.toFixed(1);
  return `${seconds} s, ${side.tokens.toLocaleString("en")} tokens`;
}

function line(side, hit, place, why) {
  const shown = side.documents[hit.index];
  const box = element("div", { class: "why", id: `why-${side.number}-${place}`, hidden: true });
  const button = element(
    "button",
    { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": box.id },
    "Show why",
    element("span", { class: "unseen" }, ` ${called(shown, hit).slice(0, 60)} has its score`),
  );
  button.addEventListener("click", () => {
    box.hidden = !box.hidden;
    button.setAttribute("aria-expanded", String(!box.hidden));
    if (!box.hidden && !box.childElementCount) why(hit, box);
  });
  const said = element("div", { class: "said" }, words(shown, hit), score(hit));
  said.append(element("div", { class: "foot" }, button, moved(side, hit, place)));
  const picture = hit.thumbnail
    ? element("div", { class: "shown" }, element("img", { src: hit.thumbnail, alt: "" }))
    : null;
  return element(
    "li",
    { class: "card hit" },
    element("span", { class: "place", "aria-hidden": "true" }, String(place + 1)),
    element("div", { class: "body" }, picture, said),
    box,
  );
}

/** What a result is called in one line. */
export function called(shown, hit) {
  const name = shown.name || (shown.kind === "text" ? shown.text : shown.kind);
  return hit.page ? `${name}, page ${hit.page}` : name;
}

function words(shown, hit) {
  const page = hit.page ? element("small", {}, ` page ${hit.page}`) : null;
  const name = shown.name ? element("p", { class: "name" }, shown.name, page) : null;
  if (shown.kind !== "text") return name ?? element("p", { class: "name" }, "Pasted image");
  const text = element("p", { class: "text", dir: "auto" }, shown.text.slice(0, 1200));
  return element("div", {}, name, text);
}

function score(hit) {
  const bar = element("i");
  bar.style.width = `${100 * hit.relevance_score}%`;
  return element(
    "div",
    { class: "score" },
    element("span", { class: "bar", "aria-hidden": "true" }, bar),
    element("span", {}, element("b", {}, percent(hit.relevance_score)), element("small", {}, `logit ${hit.logit.toFixed(2)}`)),
  );
}

/** A probability with one decimal, never rounded to certainty. */
export function percent(value) {
  if (value > 0 && value < 0.0005) return "< 0.1 %";
  if (value < 1 && value > 0.9995) return "> 99.9 %";
  return `${(100 * value).toFixed(1)} %`;
}

function moved(side, hit, place) {
  if (!side.before) return null;
  const by = side.before.findIndex((each) => each.id === hit.id) - place;
  const many = `${Math.abs(by)} ${Math.abs(by) === 1 ? "place" : "places"}`;
  if (!by) return element("span", { class: "moved" }, "same place", element("span", { class: "unseen" }, " as in A"));
  const [kind, arrow, told] = by > 0 ? ["up", "↑", "higher"] : ["down", "↓", "lower"];
  return element(
    "span",
    { class: `moved ${kind}` },
    element("span", { "aria-hidden": "true" }, `${arrow} `),
    many,
    element("span", { class: "unseen" }, ` ${told} than in A`),
  );
}

/** Why: a heat map for each page, a text with its hot words marked. */
export function explanation(found, name) {
  const parts = found.parts.map((part) => (part.heat_map ? heat(part, name) : marked(part)));
  const cut = found.truncated ? element("p", { class: "hint" }, "The end was cut off and is not explained.") : null;
  return element("div", {}, ...parts.flat(), cut);
}

function heat(part, name) {
  const under = part.boxes.map((box) => box.words).filter(Boolean).map((each) => each.slice(0, 120));
  const picture = element("img", { src: part.heat_map, alt: `Heat map over ${name}: what counted is coloured` });
  const said = under.length
    ? `Hottest: ${under.slice(0, 3).map((each) => `“${each}”`).join(", ")}`
    : part.boxes.length ? "What counted is coloured." : "No place stands out.";
  return [picture, element("p", { class: "hint" }, said)];
}

function marked(part) {
  const quote = element("blockquote", { dir: "auto", tabIndex: 0, "aria-label": "Text with the words marked that counted" });
  const most = Math.max(...part.relevant_spans.map((span) => span.score));
  // The server counts characters, JavaScript halves of those beyond the first plane.
  const text = Array.from(part.text);
  let at = 0;
  for (const span of [...part.relevant_spans].sort((a, b) => a.start - b.start)) {
    quote.append(text.slice(at, span.start).join(""));
    quote.append(element("mark", { class: span.score === most ? "most" : "" }, text.slice(span.start, span.end).join("")));
    at = span.end;
  }
  quote.append(text.slice(at).join(""));
  return part.relevant_spans.length ? [quote] : [quote, element("p", { class: "hint" }, "No word stands out.")];
}
