// Elements. Knows the DOM, not ComfyUI.

const NS = "http://www.w3.org/2000/svg";

/** `look`: its class, or properties. `children`: elements and texts. */
export function html(tag, look = "", ...children) {
  const properties = typeof look === "string" ? { className: look } : look;
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function shape(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const button = (className, onclick, ...children) =>
  html("button", { className, onclick }, ...children);
