//! Rows of text in aligned columns.

/// A table whose first row is its head. Every cell is one line, whatever it came from.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
    /// The columns of numbers.
    right: [bool; COLUMNS],
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(head: [&str; COLUMNS]) -> Self {
        Self { rows: vec![head.map(str::to_owned)], right: [false; COLUMNS] }
    }

    /// Aligns these columns at their ends.
    pub(crate) const fn numbers(mut self, right: [bool; COLUMNS]) -> Self {
        self.right = right;
        self
    }

    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| one_line(&cell)));
    }

    pub(crate) fn render(&self) -> String {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(widths).zip(self.right).map(|((cell, width), right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text without anything that would steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_end_together() {
        let mut table = Table::new(["STREAM", "WAITING", "WHY"]).numbers([false, true, false]);
        table.row(["a".to_owned(), "1000000000".to_owned(), "x\u{1b}[2J\ny".to_owned()]);
        table.row(["completions".to_owned(), "2".to_owned(), String::new()]);
        let wanted = "STREAM          WAITING  WHY\n\
                      a            1000000000  x\\u{1b}[2J\\ny\n\
                      completions           2\n";
        assert_eq!(table.render(), wanted);
    }
}
