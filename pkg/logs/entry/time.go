package entry

// AppendTime appends the time, in ns since 1970-01-01 UTC (0 … math.MaxInt64), as RFC 3339 with as many digits of the
// second's fraction as are not zero. Package time would do the same, but it doubles what the monitor links.
func AppendTime(b []byte, ns int64) []byte {
	sec, frac := ns/1e9, int(ns%1e9)
	year, month, day := civil(int(sec / 86400))
	clock := int(sec % 86400)
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), month, 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), clock/3600, 2)
	b = appendDigits(append(b, ':'), clock/60%60, 2)
	b = appendDigits(append(b, ':'), clock%60, 2)
	if frac != 0 {
		b = appendDigits(append(b, '.'), frac, 9)
		for b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
	}
	return append(b, 'Z')
}

// civil turns days since 1970-01-01 into a date. Years begin in March here, so that the leap day is the last; 146097
// days are 400 years.
func civil(days int) (year, month, day int) {
	z := days + 719468 // since 0000-03-01
	era := z / 146097
	doe := z % 146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	m := (5*doy + 2) / 153
	day = doy - (153*m+2)/5 + 1
	year = era*400 + yoe
	if m < 10 {
		return year, m + 3, day
	}
	return year + 1, m - 9, day
}

func appendDigits(b []byte, v, width int) []byte {
	var d [9]byte
	for i := width - 1; i >= 0; i-- {
		d[i] = byte('0' + v%10)
		v /= 10
	}
	return append(b, d[:width]...)
}
