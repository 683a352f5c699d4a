// Package deepcopy copies values of Azure's SDK, which are trees of pointers. Reading what was written as JSON does the same at
// a hundred times the cost, since each level of the SDK's types reads all of its text anew. It is not for values that hold
// functions, channels or locks.
package deepcopy

import "reflect"

// Of returns a copy that shares nothing with the value that can change.
func Of[T any](value T) T {
	copied := reflect.New(reflect.TypeFor[T]()).Elem()
	into(copied, reflect.ValueOf(&value).Elem())
	return copied.Interface().(T)
}

func into(to, from reflect.Value) {
	switch from.Kind() {
	case reflect.Pointer:
		if !from.IsNil() {
			to.Set(reflect.New(from.Type().Elem()))
			into(to.Elem(), from.Elem())
		}
	case reflect.Slice:
		if !from.IsNil() {
			to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
			for i := range from.Len() {
				into(to.Index(i), from.Index(i))
			}
		}
	case reflect.Map:
		if !from.IsNil() {
			to.Set(reflect.MakeMapWithSize(from.Type(), from.Len()))
			for entry := from.MapRange(); entry.Next(); {
				value := reflect.New(from.Type().Elem()).Elem()
				into(value, entry.Value())
				to.SetMapIndex(entry.Key(), value)
			}
		}
	case reflect.Interface:
		if !from.IsNil() {
			value := reflect.New(from.Elem().Type()).Elem()
			into(value, from.Elem())
			to.Set(value)
		}
	case reflect.Struct:
		to.Set(from) // with what is not exported, as in time.Time
		for i := range from.NumField() {
			if from.Type().Field(i).IsExported() {
				into(to.Field(i), from.Field(i))
			}
		}
	default:
		to.Set(from)
	}
}
