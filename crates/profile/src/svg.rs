//! Charts as SVG: what a chart needs besides its data. Colours are the page's: everything drawn has a class.

mod label;
mod scale;
