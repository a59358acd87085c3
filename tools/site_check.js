// What tools/site_check.py asks of a page: each function answers with a line for each fault.

// What ends beyond the page with nothing around it that scrolls, and what is cut off or broken in the text.
function tooWide() {
  const page = document.documentElement.clientWidth;
  const overflow = (element) => getComputedStyle(element).overflowX;
  const named = (element) => {
    const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
    return `<${element.tagName.toLowerCase()} class="${element.getAttribute("class") ?? ""}"> ${text}`;
  };
  const found = [];
  const whole = document.scrollingElement.scrollWidth;
  if (whole > page) found.push(`the page scrolls sideways: ${whole} of ${page} pixels`);
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || !element.checkVisibility({ checkVisibilityCSS: true })) continue;
    let around = element.parentElement;
    while (around && !/auto|scroll/.test(overflow(around))) around = around.parentElement;
    if (!around && box.right > page + 1 && box.left < page) {
      found.push(`ends at ${Math.round(box.right)} of ${page} pixels: ${named(element)}`);
    }
    const cut = element.scrollWidth - element.clientWidth;
    if (element.closest(".md-content") && /hidden|clip/.test(overflow(element)) && cut > 1 && element.clientWidth > 1) {
      found.push(`cuts off ${cut} pixels: ${named(element)}`);
    }
  }
  return [...found, ...brokenOptions()];
}

// The options of a command that a line ends in the middle of.
function brokenOptions() {
  const found = [];
  for (const code of document.querySelectorAll(".md-content code")) {
    if (code.closest("pre")) continue;
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      for (const { 0: option, index } of text.data.matchAll(/(?<![\w-])--[a-z][\w-]*/g)) {
        const range = document.createRange();
        range.setStart(text, index);
        range.setEnd(text, index + option.length);
        const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
        if (lines.size > 1) found.push(`a line ends within ${option}: ${code.textContent.slice(0, 60)}`);
      }
    }
  }
  return found;
}

// Once the page has been laid out at its width, and its observers of sizes have been told.
const laidOut = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));

// What axe-core finds. The frame around the text is alike on all pages: one of them has it looked at.
async function inaccessible([scheme, withFrame]) {
  const options = scheme === "dark"
    ? { runOnly: ["color-contrast", "link-in-text-block"] }
    : { rules: { "landmark-unique": { enabled: false } } }; // the theme's: the levels of its navigation
  const context = { include: [["html"]] };
  if (!withFrame) context.exclude = [[".md-sidebar"], [".md-header"], [".md-footer"]];
  await laidOut();
  const { violations } = await axe.run(context, { ...options, resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.slice(0, 5).map(({ html, any }) => {
      const why = any.map(({ message }) => message).join("; ");
      return `${id}: ${help}: ${html.slice(0, 160)} ${why.slice(0, 200)}`;
    }));
}
