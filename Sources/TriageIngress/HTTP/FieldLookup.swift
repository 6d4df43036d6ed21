internal import HTTPTypes
internal import NIOHTTP1

extension HTTPFields {
    /// What the subscript gives, without the sequences and joined strings that it makes: for fields that are looked up in each request.
    func text(_ name: HTTPField.Name) -> String? {
        var found: String?
        for field in self where field.name == name {
            guard found == nil else { return self[name] }
            found = field.value
        }
        return found
    }

    /// The value of the only field of a name; nil if there is none, or several.
    func only(_ name: HTTPField.Name) -> String? {
        var found: String?
        for field in self where field.name == name {
            guard found == nil else { return nil }
            found = field.value
        }
        return found
    }
}

extension HTTPHeaders {
    /// The same fields in HTTPTypes' terms.
    func fields() throws(RefusalError) -> HTTPFields {
        var fields = HTTPFields()
        fields.reserveCapacity(count)
        for (name, value) in self {
            guard let name = HTTPField.Name(name), HTTPField.isValidValue(value) else {
                throw RefusalError(refusal: .bad("a header field is malformed"))
            }
            fields.append(HTTPField(name: name, value: value))
        }
        return fields
    }
}
