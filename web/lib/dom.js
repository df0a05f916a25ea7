// Elements. Knows the DOM, not ComfyUI.

const NS = "http://www.w3.org/2000/svg";

/** `children`: elements and texts. */
export function html(tag, className = "", ...children) {
  const element = Object.assign(document.createElement(tag), { className });
  element.append(...children);
  return element;
}

export function shape(tag, attributes = {}, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set a text, unless it is there already: a change costs a layout. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A button that hands on its clicks alone, not the drag of a node. */
export function button(className, onClick, ...children) {
  const element = html("button", className, ...children);
  element.type = "button";
  element.addEventListener("click", onClick);
  return element;
}
