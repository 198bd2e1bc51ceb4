package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// object is what a name can mean.
type object struct{ id, name string }

// pick finds the one object that want names: a full id, else a name, else the beginning of an id.
func pick(what, want string, all []object) (int, error) {
	var byName, byID []int
	for i, o := range all {
		switch {
		case o.id == want:
			return i, nil
		case o.name == want:
			byName = append(byName, i)
		case want != "" && strings.HasPrefix(o.id, want):
			byID = append(byID, i)
		}
	}
	found := byName
	if len(found) == 0 {
		found = byID
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("there is no %s with the name %q or with an id that begins so", what, want)
	}
	var ids []string
	for _, i := range found {
		ids = append(ids, Short(all[i].id))
	}
	return 0, &ambiguous{fmt.Sprintf("%q means %d %ss (%s): give one's id", want, len(found), what, strings.Join(ids, ", "))}
}

// ambiguous is the error of a name that several have.
type ambiguous struct{ text string }

func (a *ambiguous) Error() string { return a.text }

// Absent tells whether an error of Container, Pod or of a call says that there is no such thing: then the name may be
// another kind's.
func Absent(err error) bool {
	if a := (*ambiguous)(nil); err == nil || errors.As(err, &a) {
		return false
	}
	s, answered := status.FromError(err)
	return !answered || s.Code() == codes.NotFound
}

// Short is the beginning of an id as lists show it: as long as crictl's.
func Short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 13)]
}

// Container finds a container by name or id.
func (c *Client) Container(ctx context.Context, name string) (*v1.Container, error) {
	r, err := c.Runtime.ListContainers(ctx, &v1.ListContainersRequest{})
	if err != nil {
		return nil, c.Explain(fmt.Sprintf("container %q", name), err)
	}
	all := make([]object, len(r.Containers))
	for i, o := range r.Containers {
		all[i] = object{o.Id, o.GetMetadata().GetName()}
	}
	i, err := pick("container", name, all)
	if err != nil {
		return nil, err
	}
	return r.Containers[i], nil
}

// Pod finds a pod by name or id.
func (c *Client) Pod(ctx context.Context, name string) (*v1.PodSandbox, error) {
	r, err := c.Runtime.ListPodSandbox(ctx, &v1.ListPodSandboxRequest{})
	if err != nil {
		return nil, c.Explain(fmt.Sprintf("pod %q", name), err)
	}
	all := make([]object, len(r.Items))
	for i, o := range r.Items {
		all[i] = object{o.Id, o.GetMetadata().GetName()}
	}
	i, err := pick("pod", name, all)
	if err != nil {
		return nil, err
	}
	return r.Items[i], nil
}
