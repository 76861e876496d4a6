using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using GpuTasks.Secrets;
using GpuTasks.Security;
using GpuTasks.Store;
using Orleans.Storage;

namespace GpuTasks.Storage;

/// <summary>
/// Stored states as JSON by property name: enums by name, bytes as base64, nulls left out, properties that the reader does
/// not know skipped, so that two versions of the program can read each other's rows. A property that may be null must
/// therefore be null by default. What is marked <see cref="SecretAttribute"/> is written encrypted; values in the clear, of
/// rows that were written before, are read too.
/// </summary>
public sealed class SystemTextJsonStorageSerializer : IGrainStorageSerializer
{
    private readonly JsonSerializerOptions options;

    internal SystemTextJsonStorageSerializer(SecretProtector? secrets = null) => options = Create(secrets);

    /// <inheritdoc />
    public BinaryData Serialize<T>(T? input) => new(SerializeToBytes(input));

    internal byte[] SerializeToBytes<T>(T? input) => JsonSerializer.SerializeToUtf8Bytes(input, options);

    /// <inheritdoc />
    public T Deserialize<T>(BinaryData input) => JsonSerializer.Deserialize<T>(input.ToMemory().Span, options)!;

    private static JsonSerializerOptions Create(SecretProtector? secrets)
    {
        var options = new JsonSerializerOptions
        {
            DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
            // Rows are read by databases and programs, never put into a page.
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            TypeInfoResolver = new DefaultJsonTypeInfoResolver { Modifiers = { LeaveOutDerived, type => SecretJson.Encrypt(type, secrets) } },
            Converters = { new JsonStringEnumConverter() },
        };
        options.MakeReadOnly();
        return options;
    }

    /// <summary>Properties without a setter follow from others and are not stored, but for the index that the database reads.</summary>
    private static void LeaveOutDerived(JsonTypeInfo type)
    {
        if (type.Kind != JsonTypeInfoKind.Object)
        {
            return;
        }

        for (var i = type.Properties.Count - 1; i >= 0; i--)
        {
            var property = type.Properties[i];
            if (property.Set is null && property.AssociatedParameter is null && property.Name != nameof(IIndexed.Index))
            {
                type.Properties.RemoveAt(i);
            }
        }
    }
}
