#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace supervisor {

enum class Color { kNone, kBold, kDim, kRed, kGreen, kYellow, kCyan };

// `text` in that colour where `enabled`, else as it is.
std::string Colored(std::string_view text, Color color, bool enabled);

// Columns aligned by what a terminal shows, not by bytes. Whatever is put in is made safe for a terminal.
class Table {
 public:
  enum class Align { kLeft, kRight };
  // What becomes of a column where the screen is too narrow. The lowest rank is left out first; texts are cut, but not
  // below a readable width, before anything is left out.
  enum class Fit { kKeep, kCut, kDrop };
  struct Column {
    std::string_view header;
    Align align = Align::kLeft;
    Fit fit = Fit::kKeep;
    int rank = 0;  // of kDrop
  };
  struct Cell {
    // Implicit, so that rows read well.
    // NOLINTNEXTLINE(google-explicit-constructor)
    Cell(const std::string& cell_text, Color cell_color = Color::kNone);

    std::string text;
    Color color;
  };

  explicit Table(std::vector<Column> columns);
  // As many cells as there are columns.
  void AddRow(std::vector<Cell> cells);
  // Header and rows, each line with its newline; no blanks at the end of lines. A `width` other than 0 is that of the
  // screen: what does not fit is left out, and a last line says so.
  std::string Render(bool color, std::string_view indent = "", size_t width = 0) const;

 private:
  // The width of each column on a screen with so many columns; 0: left out.
  std::vector<size_t> Fitted(size_t width) const;

  std::vector<Column> columns_;
  std::vector<size_t> widths_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace supervisor
