package cri

import (
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// NotServed is notServed.
var NotServed = notServed

// InChunks is inChunks over containers whose image's name has that many bytes.
func InChunks(sizes []int, send func([]*v1.Container) error) error {
	return inChunks(each(sizes, func(n int) *v1.Container {
		return &v1.Container{Image: &v1.ImageSpec{Image: strings.Repeat("x", n)}}
	}), send)
}
