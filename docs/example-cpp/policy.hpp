// A recurrent policy of one stream, by ONNX Runtime: any that recurrent-rl exported with --batch 1.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

class Policy {
public:
    explicit Policy(const std::string &path)
        : session_(env_, std::basic_string<ORTCHAR_T>(path.begin(), path.end()).c_str(), options()) {
        for (std::size_t i = 0; i < session_.GetInputCount(); ++i) {
            inputs_.push_back(session_.GetInputNameAllocated(i, allocator_).get());
            given_.push_back(zeros(session_.GetInputTypeInfo(i)));
        }
        for (std::size_t i = 0; i < session_.GetOutputCount(); ++i)
            outputs_.push_back(session_.GetOutputNameAllocated(i, allocator_).get());
        reset();
        if (has(inputs_, "action_mask")) fill("action_mask", true);
    }

    // The next observation starts an episode.
    void reset() { fill("episode_start", true); }

    // Gives an input: obs, action_mask, previous_reward. It stays until it is given anew. Its type is
    // that of the table of inputs: std::int64_t, float, double, std::uint8_t or bool.
    template <typename T>
    void set(const std::string &name, const std::vector<T> &values) {
        Ort::Value &tensor = given_[place(inputs_, name)];
        check<T>(name, tensor);
        const std::size_t size = tensor.GetTensorTypeAndShapeInfo().GetElementCount();
        if (values.size() != size)
            throw Ort::Exception(name + " has " + std::to_string(size) + " numbers; given were " +
                                     std::to_string(values.size()),
                                 ORT_INVALID_ARGUMENT);
        std::copy(values.begin(), values.end(), tensor.GetTensorMutableData<T>());
    }

    // One step, after which the memory is that of the next one.
    void step() {
        const auto given = pointers(inputs_), wanted = pointers(outputs_);
        found_ = session_.Run(Ort::RunOptions(), given.data(), given_.data(), given.size(),
                              wanted.data(), wanted.size());
        for (std::size_t i = 0; i < inputs_.size(); ++i) {
            const std::string after = after_it(inputs_[i]);
            if (has(outputs_, after)) given_[i] = std::move(found_[place(outputs_, after)]);
        }
        fill("episode_start", false);
    }

    // An output of the last step: action, logits, mean, std or value.
    template <typename T>
    std::vector<T> output(const std::string &name) const {
        const Ort::Value &tensor = found_.at(place(outputs_, name));
        check<T>(name, tensor);
        const T *numbers = tensor.GetTensorData<T>();
        return {numbers, numbers + tensor.GetTensorTypeAndShapeInfo().GetElementCount()};
    }

private:
    using Names = std::vector<std::string>;

    static Ort::SessionOptions options() {
        Ort::SessionOptions found;
        found.SetIntraOpNumThreads(1);  // more only wait for one another, at such sizes
        return found;
    }

    Ort::Value zeros(const Ort::TypeInfo &type) {
        const auto info = type.GetTensorTypeAndShapeInfo();
        const std::vector<int64_t> shape = info.GetShape();
        if (std::count(shape.begin(), shape.end(), -1))
            throw Ort::Exception("The model is of any number of streams: export it with --batch 1",
                                 ORT_INVALID_ARGUMENT);
        const auto kind = info.GetElementType();
        Ort::Value tensor = Ort::Value::CreateTensor(allocator_, shape.data(), shape.size(), kind);
        const bool wide = kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ||
                          kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
        const bool narrow = kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL ||
                            kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 ||
                            kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
        char *bytes = static_cast<char *>(tensor.GetTensorMutableRawData());
        std::fill_n(bytes, info.GetElementCount() * (wide ? 8 : narrow ? 1 : 4), '\0');
        return tensor;
    }

    void fill(const std::string &name, bool value) {
        Ort::Value &tensor = given_[place(inputs_, name)];
        std::fill_n(tensor.GetTensorMutableData<bool>(),
                    tensor.GetTensorTypeAndShapeInfo().GetElementCount(), value);
    }

    template <typename T>
    static void check(const std::string &name, const Ort::Value &tensor) {
        if (tensor.GetTensorTypeAndShapeInfo().GetElementType() != Ort::TypeToTensorType<T>::type)
            throw Ort::Exception(name + " is of another type", ORT_INVALID_ARGUMENT);
    }

    // The output that is a state's value at the next step: h_out for h_in.
    static std::string after_it(const std::string &name) {
        const std::size_t end = name.rfind("_in");
        return end == std::string::npos ? "" : name.substr(0, end) + "_out";
    }

    static bool has(const Names &names, const std::string &name) {
        return std::count(names.begin(), names.end(), name) > 0;
    }

    static std::size_t place(const Names &names, const std::string &name) {
        const auto found = std::find(names.begin(), names.end(), name);
        if (found == names.end()) throw Ort::Exception("There is no " + name, ORT_INVALID_ARGUMENT);
        return static_cast<std::size_t>(found - names.begin());
    }

    static std::vector<const char *> pointers(const Names &names) {
        std::vector<const char *> found;
        for (const std::string &name : names) found.push_back(name.c_str());
        return found;
    }

    Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "policy"};
    Ort::Session session_;
    Ort::AllocatorWithDefaultOptions allocator_;
    Names inputs_, outputs_;
    std::vector<Ort::Value> given_, found_;
};
