package cni

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// suffixes are those of Kubernetes' quantities.
var suffixes = map[string]*big.Rat{
	"n": big.NewRat(1, 1e9), "u": big.NewRat(1, 1e6), "m": big.NewRat(1, 1e3), "": big.NewRat(1, 1),
	"k": big.NewRat(1e3, 1), "M": big.NewRat(1e6, 1), "G": big.NewRat(1e9, 1), "T": big.NewRat(1e12, 1), "P": big.NewRat(1e15, 1), "E": big.NewRat(1e18, 1),
	"Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1), "Gi": big.NewRat(1<<30, 1), "Ti": big.NewRat(1<<40, 1), "Pi": big.NewRat(1<<50, 1), "Ei": big.NewRat(1<<60, 1),
}

// parseQuantity reads a positive quantity as Kubernetes writes them ("10M", "1.5Gi", "2e6"), rounded up to a whole number.
func parseQuantity(s string) (uint64, error) {
	if len(s) > 40 { // no quantity of use is, and the arithmetic below is exact
		return 0, fmt.Errorf("%q is not a quantity such as 10M", cutText(s))
	}
	number := strings.TrimRight(s, "numkKMGTPEi")
	exponent := 0
	suffix := s[len(number):]
	if mantissa, exp, ok := cutExponent(s); ok {
		var err error
		if exponent, err = strconv.Atoi(exp); err != nil || exponent < -18 || exponent > 18 {
			return 0, fmt.Errorf("%q is not a quantity such as 10M", cutText(s))
		}
		number, suffix = mantissa, ""
	}
	factor := suffixes[suffix]
	if factor == nil || strings.Trim(number, "+0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a quantity such as 10M", cutText(s))
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q is not a quantity such as 10M", cutText(s))
	}
	value.Mul(value, factor)
	for range max(exponent, -exponent) {
		if exponent > 0 {
			value.Mul(value, big.NewRat(10, 1))
		} else {
			value.Quo(value, big.NewRat(10, 1))
		}
	}
	whole, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	if !whole.IsUint64() {
		return 0, fmt.Errorf("%q is not a quantity within 64 bits", cutText(s))
	}
	return whole.Uint64(), nil
}

// cutExponent splits "2e6"; "1E" is an exabit.
func cutExponent(s string) (mantissa, exponent string, ok bool) {
	i := strings.IndexAny(s, "eE")
	if i <= 0 || i == len(s)-1 || s[i+1] == 'i' {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func cutText(s string) string { return s[:min(len(s), 64)] }
