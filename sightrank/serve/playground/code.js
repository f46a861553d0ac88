// The same request as code, to be copied.

import { LANGUAGES, shortened, snippet } from "./snippets.js";
import { element } from "./view.js";

const at = (id) => document.getElementById(id);
const shown = { language: "curl", bodies: [], side: 0, withKey: false };

/** Put the languages there and let the button copy. */
export function connectCode() {
  at("languages").append(...Object.entries(LANGUAGES).map(([value, name]) => choice("language", value, name)));
  at("copy").addEventListener("click", copy);
}

/** Show the code of bodies of /v1/rank, one a side, of which one is chosen. */
export function showCode(bodies, withKey) {
  Object.assign(shown, { bodies, withKey, side: Math.min(shown.side, bodies.length - 1) });
  at("code-sides").hidden = bodies.length < 2;
  at("code-sides").replaceChildren(...bodies.map((_, number) => choice("side", number, "AB"[number])));
  show();
}

function choice(kind, value, name) {
  const input = element("input", { type: "radio", name: `code-${kind}`, value, checked: value === shown[kind] });
  input.addEventListener("change", () => {
    shown[kind] = value;
    show();
  });
  return element("label", {}, input, name);
}

function code() {
  return snippet(shown.language, location.origin, shown.bodies[shown.side], shown.withKey);
}

function show() {
  const whole = code();
  const short = shortened(whole);
  at("code").hidden = false;
  at("snippet").textContent = short;
  at("copied").textContent = short === whole ? "" : "Files are shortened here; what is copied has them whole.";
}

async function copy() {
  const copied = await toClipboard(code());
  const told = `Copied, ${LANGUAGES[shown.language]}.`;
  at("copied").textContent = copied ? told : "The browser does not allow copying here; select the code instead.";
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // without https other machines' pages have no clipboard of that kind
    const field = element("textarea", { value: text, class: "unseen" });
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    at("copy").focus();
    return done;
  }
}
