// The page: what is asked, what is ranked, and what happens when something is pressed.

import { connectCode, showCode } from "./code.js";
import { fromFile, passages, sent } from "./documents.js";
import { connectIntake } from "./intake.js";
import { get, key, post, Refusal } from "./server.js";
import * as settings from "./settings.js";
import { called, cost, element, explanation, percent, ranking, trayItem } from "./view.js";

const THUMBNAIL = 240;
const HEAT_MAP = 900;
const at = (id) => document.getElementById(id);
const state = { facts: null, image: null, documents: [], chosen: [], running: null, example: null };

start();

async function start() {
  connect();
  connectCode();
  try {
    state.facts = await get("/playground/facts");
    showFacts();
    showSettings();
    await showExamples();
  } catch (error) {
    fail(error);
  }
}

function connect() {
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    state.running ? state.running.abort() : rank();
  });
  at("add").addEventListener("click", addPassages);
  at("clear").addEventListener("click", () => {
    state.documents = [];
    showTray();
    at("passage").focus();
  });
  connectIntake({
    query: ask,
    documents: addFiles,
    queryText: (text) => (at("query").value = text),
    documentText: (text) => add(passages(text)),
  });
  at("compare").addEventListener("change", showSettings);
  at("key").addEventListener("input", (event) => key.set(event.target.value.trim()));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !state.running) {
      event.preventDefault();
      rank();
    }
  });
}

// What is added.

async function addFiles(files) {
  const made = await Promise.allSettled(files.map(fromFile));
  add(made.filter((each) => each.status === "fulfilled").map((each) => each.value));
  const failed = made.find((each) => each.status === "rejected");
  if (failed) fail(failed.reason);
}

async function ask(files) {
  if (!files.length) return;
  try {
    const image = await fromFile(files[0]);
    if (image.kind === "pdf") throw new Error(`${image.name} is a PDF, and a query is a text or an image.`);
    if (image.kind === "text") at("query").value = image.text.trim();
    setQueryImage(image.kind === "image" ? image : null);
  } catch (error) {
    fail(error);
  }
}

function addPassages() {
  add(passages(at("passage").value));
  at("passage").value = "";
  at("passage").focus();
}

function add(documents) {
  if (!documents.length) return;
  state.documents.push(...documents);
  showTray();
  at("tray").scrollTop = at("tray").scrollHeight;
  say(`${documents.length} ${documents.length === 1 ? "document" : "documents"} added, ${state.documents.length} in all.`);
}

function setQueryImage(image) {
  state.image = image;
  const remove = () => {
    setQueryImage(null);
    at("query").focus();
  };
  at("query-image").replaceChildren(...(image ? [trayItem("div", image, remove)] : []));
  at("query-image").hidden = !image;
  at("query").hidden = Boolean(image);
}

// What is seen of what is known.

function showFacts() {
  const { models, key: needed } = state.facts;
  at("facts").textContent = models.map(({ name, device, numbers }) => `${name} on ${device}, ${numbers}`).join("; ");
  if (models.some(({ name }) => name === "nano")) {
    const which = models.length > 1 ? "nano is a" : "A";
    at("facts").append(`. ${which} small model that shows how it works: it does not recognise pictures, and reads print a little.`);
  }
  if (models.length > 1) at("compare-what").textContent = "Compare two models or settings side by side";
  at("key-field").hidden = !needed;
  at("key").value = key.get();
}

function showSettings() {
  const two = at("compare").checked;
  const [first, second] = state.facts.models;
  state.chosen = [0, 1].map((number) => (at(`pixels-${number}`) ? settings.read(number) : state.chosen[number] ?? {}));
  if (two && !at("pixels-1") && !Object.keys(state.chosen[1]).length) {
    const smaller = { max_pixels: Math.floor(first.max_pixels / 8 / 784) * 784 };
    state.chosen[1] = second ? { model: second.name } : smaller;
  }
  at("settings").replaceChildren(...settings.fields(state.facts, two ? 2 : 1, state.chosen));
  at("settings").classList.toggle("two", two);
}

function showTray(bad = -1) {
  const items = state.documents.map((each, place) => {
    const made = trayItem("li", each, () => removed(place));
    made.classList.toggle("bad", place === bad);
    return made;
  });
  at("tray").replaceChildren(...items);
  at("count").textContent = items.length ? String(items.length) : "";
  at("clear").hidden = items.length < 2;
}

function removed(place) {
  state.documents.splice(place, 1);
  showTray();
  const buttons = at("tray").querySelectorAll("button");
  (buttons[Math.min(place, buttons.length - 1)] ?? at("passage")).focus();
  say(`Removed, ${state.documents.length} left.`);
}

async function showExamples() {
  const examples = await get("/playground/examples.json");
  at("examples").append(...examples.map((each) => {
    const button = element("button", { type: "button", "aria-pressed": "false" }, element("b", {}, each.name), element("span", {}, each.about));
    button.addEventListener("click", () => showExample(each, button));
    return element("li", {}, button);
  }));
}

async function showExample(example, button) {
  state.example = example;
  for (const other of at("examples").querySelectorAll("button")) {
    other.setAttribute("aria-pressed", String(other === button));
  }
  try {
    const [query, ...documents] = await Promise.all([example.query, ...example.documents].map(part));
    if (state.example !== example) return; // another was chosen meanwhile
    setQueryImage(query.kind === "image" ? query : null);
    at("query").value = query.kind === "text" ? query.text : "";
    state.documents = documents;
    showTray();
    await rank({ typed: false });
  } catch (error) {
    fail(error);
  }
}

async function part(given) {
  if (given.text) return passages(given.text)[0];
  const reply = await fetch(`/playground/${given.file}`);
  if (!reply.ok) throw new Refusal(reply.status, `${given.file} cannot be had.`);
  return fromFile(new File([await reply.blob()], given.file));
}

// Ranking.

async function rank({ typed = true } = {}) {
  state.running?.abort();
  if (typed) addTyped();
  const query = state.image ? sent(state.image) : at("query").value.trim();
  if (!query) return refuse("Ask something: type a query, or choose an image.", at("query"));
  if (!state.documents.length) return refuse("Add something to rank: passages, images or PDFs.", at("passage"));
  const documents = [...state.documents];
  const sides = (at("compare").checked ? [0, 1] : [0]).map(settings.read);
  const body = { query, documents: documents.map(sent) };
  const running = (state.running = new AbortController());
  busy(true);
  try {
    const found = [];
    for (const asked of sides) { // one after the other: together they would wait for each other
      found.push(await post("/v1/rank", { ...body, ...asked, thumbnails: THUMBNAIL }, state.facts?.max_body, running.signal));
    }
    showRanking(found, sides, body, documents);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else fail(error, documents);
  } finally {
    if (state.running === running) {
      state.running = null;
      busy(false);
    }
  }
}

function addTyped() {
  if (!at("passage").value.trim()) return;
  state.documents.push(...passages(at("passage").value));
  at("passage").value = "";
  showTray();
}

function showRanking(found, sides, body, documents) {
  const made = found.map(({ answer, seconds }, number) => ({
    number,
    name: sides.length > 1 ? `${"AB"[number]}: ${settings.told(sides[number])}` : "",
    documents,
    results: answer.results,
    seconds,
    tokens: answer.usage.total_tokens,
    before: number ? found[0].answer.results : null,
  }));
  at("empty").hidden = true;
  at("lists").replaceChildren(...made.map((side) => ranking(side, (hit, box) => why(hit, box, body, sides[side.number], documents))));
  at("lists").classList.toggle("two", made.length > 1);
  showTray();
  const [best] = made[0].results;
  const many = made[0].results.length;
  const took = made.length > 1 ? "ranked twice" : `ranked: ${cost(made[0])}`;
  say(`${many} ${many === 1 ? "document" : "documents"} ${took}. Best: ${called(documents[best.index], best).slice(0, 60)}, ${percent(best.relevance_score)}.`);
  showCode(sides.map((asked) => ({ ...asked, ...body })), state.facts?.key);
  const { top, bottom } = at("results").getBoundingClientRect();
  if (top > innerHeight * 0.7 || bottom < 0) at("results").scrollIntoView({ block: "start" });
}

async function why(hit, box, body, asked, documents) {
  box.append(element("p", { class: "hint", role: "status" }, "Looking…"));
  const document = hit.page ? { ...body.documents[hit.index], pages: [hit.page] } : body.documents[hit.index];
  try {
    const { answer } = await post("/v1/explain", { query: body.query, document, heat_map: HEAT_MAP, ...asked }, state.facts?.max_body);
    box.replaceChildren(explanation(answer, called(documents[hit.index], hit).slice(0, 60)));
  } catch (error) {
    box.replaceChildren();
    box.hidden = true;
    box.parentElement.querySelector("[aria-expanded]").setAttribute("aria-expanded", "false");
    fail(error, documents);
  }
}

function busy(is) {
  at("rank").textContent = is ? "Stop" : "Rank";
  at("results").setAttribute("aria-busy", String(is));
  if (is) {
    at("error").hidden = true;
    say("Ranking…");
  }
}

function say(text) {
  at("status").textContent = text;
}

function refuse(message, field) {
  fail(new Error(message));
  field.focus();
}

/** Show what went wrong; a document that the server names by its place is named and marked. */
function fail(error, documents = []) {
  const place = Number(/documents\[(\d+)\]/.exec(error.message)?.[1] ?? -1);
  const name = documents[place] && (documents[place].name || `passage ${place + 1}`);
  const detail = name ? error.message.replace(/documents\[\d+\]/g, name) : error.message;
  const box = at("error");
  box.replaceChildren(element("b", {}, error.heading ?? "Not yet"), detail);
  if (error.wait) box.append(element("small", {}, `Try again in ${error.wait} s.`));
  if (error.request) box.append(element("small", {}, `Request ${error.request}`));
  box.hidden = false;
  box.scrollIntoView({ block: "nearest" });
  say("");
  if (name && state.documents[place] === documents[place]) showTray(place);
  if (error.status === 401) {
    at("key-field").hidden = false;
    at("key").focus();
  }
}
