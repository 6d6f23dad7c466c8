# SPDX-License-Identifier: ISC
# graph.awk: three curves against the sessions held, as an SVG picture. Lines of
# input: HELD SESSIONS-A-SECOND CPU-US-A-SESSION BYTES-A-SESSION.

# The smallest of 1, 2, 5, 10, ... that is not below x.
function round_up(x,   unit) {
	unit = 1
	while (unit * 10 < x)
		unit *= 10
	if (x <= unit)
		return unit
	if (x <= 2 * unit)
		return 2 * unit
	if (x <= 5 * unit)
		return 5 * unit
	return 10 * unit
}

function number(n,   text, out) {
	text = sprintf("%d", n)
	while (length(text) > 3) {
		out = "," substr(text, length(text) - 2) out
		text = substr(text, 1, length(text) - 3)
	}
	return text out
}

function text_at(x, y, anchor, words) {
	printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", \
	    x, y, anchor, words
}

function line(x1, y1, x2, y2, color) {
	printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" " \
	    "stroke=\"%s\"/>\n", x1, y1, x2, y2, color
}

function x_of(held) {
	return left + (right - left) * held / x_max
}

function panel(column, top, title, color,   i, top_value, y, bottom) {
	bottom = top + height
	top_value = 0
	for (i = 1; i <= NR; i++)
		if (value[column, i] > top_value)
			top_value = value[column, i]
	top_value = round_up(top_value)
	text_at(left, top - 8, "start", title)
	for (i = 0; i <= 4; i++) {
		y = bottom - height * i / 4
		line(left, y, right, y, i == 0 ? "#444" : "#ddd")
		text_at(left - 6, y + 4, "end", number(top_value * i / 4))
	}
	printf "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" " \
	    "points=\"", color
	for (i = 1; i <= NR; i++)
		printf "%.1f,%.1f ", x_of(value[1, i]), \
		    bottom - height * value[column, i] / top_value
	print "\"/>"
	for (i = 1; i <= NR; i++)
		printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\">" \
		    "<title>%s held: %s</title></circle>\n", \
		    x_of(value[1, i]), \
		    bottom - height * value[column, i] / top_value, color, \
		    number(value[1, i]), number(value[column, i])
	return bottom
}

{
	for (i = 1; i <= 4; i++)
		value[i, NR] = $i
	if ($1 > x_max)
		x_max = $1
}

END {
	left = 80
	right = 680
	height = 140
	print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" " \
	    "height=\"640\" viewBox=\"0 0 720 640\" " \
	    "font-family=\"sans-serif\" font-size=\"12\">"
	print "<rect width=\"720\" height=\"640\" fill=\"#fff\"/>"
	panel(2, 36, "new sessions a second, 64 at once", "#1b6ca8")
	panel(3, 236, "CPU a new session, microseconds", "#a8481b")
	y = panel(4, 436, "memory a session held, bytes", "#2d7d46")
	for (i = 0; i <= 4; i++)
		text_at(x_of(x_max * i / 4), y + 18, "middle", \
		    number(x_max * i / 4))
	text_at((left + right) / 2, y + 40, "middle", "sessions held")
	print "</svg>"
}
