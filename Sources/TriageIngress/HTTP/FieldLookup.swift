internal import HTTPTypes

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
