package cloud

// UserErrors makes one UserError of what is wrong in several places, such as the class's parameters and the Service's
// annotations, so that the user learns all of it at once; nil where all are nil. Sorted, in one line.
func UserErrors(errs ...error) error { return joinUserErrors(errs) }
