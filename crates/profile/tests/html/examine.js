// What is found in a frame with a page. Called by browser.rs.
function examine(window) {
  const document = window.document;
  const root = document.documentElement;
  const box = of => {
    const rect = of.getBoundingClientRect();
    return { left: rect.left, top: rect.top, right: rect.right, bottom: rect.bottom };
  };
  const touch = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
  const charts = Array.from(document.querySelectorAll("figure > svg.chart"), chart => {
    const figure = chart.parentElement;
    const around = box(chart), frame = box(figure);
    const texts = Array.from(chart.querySelectorAll("text"), text => {
      const around = box(text);
      const turned = text.hasAttribute("transform");
      return { said: text.firstChild.textContent, box: around, line: turned ? around.right - around.left : around.bottom - around.top };
    });
    const collisions = [];
    texts.forEach((one, place) => texts.slice(place + 1).forEach(other => {
      if (touch(one.box, other.box)) collisions.push(one.said + " | " + other.said);
    }));
    const marks = Array.from(chart.querySelectorAll(".mark"));
    const data = chart.querySelector(".marks").getBBox();
    const seen = mark => {
      const style = window.getComputedStyle(mark);
      return style.display !== "none" && (style.fill !== "none" || style.stroke !== "none");
    };
    return {
      id: figure.id,
      width: data.width,
      height: data.height,
      marks: marks.length,
      drawn: marks.filter(mark => { const b = mark.getBBox(); return (b.width > 0 || b.height > 0) && seen(mark); }).length,
      silent: marks.filter(mark => !mark.querySelector("title")?.textContent).length,
      tips: marks.map(mark => mark.querySelector("title").textContent),
      x: Array.from(chart.querySelectorAll(".x text:not(.name)"), text => text.textContent),
      y: Array.from(chart.querySelectorAll(".y text:not(.name)"), text => text.firstChild.textContent),
      names: Array.from(chart.querySelectorAll("text.name"), text => text.textContent),
      title: document.getElementById(chart.getAttribute("aria-labelledby").split(" ")[0]).textContent,
      desc: document.getElementById(chart.getAttribute("aria-labelledby").split(" ")[1]).textContent,
      legend: Array.from(figure.querySelectorAll(".legend li"), row => row.textContent),
      collisions,
      outside: texts.filter(text => text.box.left < frame.left || text.box.right > frame.right || text.box.top < around.top - 1 || text.box.bottom > around.bottom + 1).map(text => text.said),
      pixels: texts.length ? Math.min(...texts.map(text => text.line)) : 0,
    };
  });
  const elements = {};
  for (const element of document.querySelectorAll("*")) elements[element.localName] = (elements[element.localName] ?? 0) + 1;
  return {
    inner_width: window.innerWidth,
    scroll_width: root.scrollWidth,
    body_width: document.body.scrollWidth,
    requests: window.performance.getEntriesByType("resource").length,
    elements,
    handlers: Array.from(document.querySelectorAll("*")).flatMap(element => Array.from(element.attributes)).filter(attribute => attribute.name.startsWith("on") || /^(src|href|xlink:href|style|action)$/.test(attribute.name)).map(attribute => attribute.name),
    text: document.body.innerText,
    title: document.title,
    charts,
    figures: document.querySelectorAll("figure").length,
    tables: Array.from(document.querySelectorAll("table"), table => ({
      id: table.closest(".table").id,
      caption: table.caption.textContent,
      heads: table.tHead.rows[0].cells.length,
      rows: Array.from(table.tBodies[0].rows, row => Array.from(row.cells, cell => cell.textContent)),
    })),
  };
}
