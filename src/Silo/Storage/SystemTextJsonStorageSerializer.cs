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
    private readonly JsonSerializerOptions withoutIndex;

    internal SystemTextJsonStorageSerializer(SecretProtector? secrets = null)
    {
        options = Create(secrets, LeaveOutDerivedButIndex);
        withoutIndex = Create(secrets, LeaveOutDerived);
    }

    /// <inheritdoc />
    public BinaryData Serialize<T>(T? input) => new(JsonSerializer.SerializeToUtf8Bytes(input, options));

    /// <summary>The same without the index, a quarter of a task's text, for a writer that gives the database its columns itself.</summary>
    internal byte[] SerializeWithoutIndex<T>(T? input) => JsonSerializer.SerializeToUtf8Bytes(input, withoutIndex);

    /// <inheritdoc />
    public T Deserialize<T>(BinaryData input) => JsonSerializer.Deserialize<T>(input.ToMemory().Span, options)!;

    private static JsonSerializerOptions Create(SecretProtector? secrets, Action<JsonTypeInfo> leaveOut)
    {
        var options = new JsonSerializerOptions
        {
            DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
            // Rows are read by databases and programs, never put into a page.
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            TypeInfoResolver = new DefaultJsonTypeInfoResolver { Modifiers = { leaveOut, type => SecretJson.Encrypt(type, secrets) } },
            Converters = { new JsonStringEnumConverter() },
        };
        options.MakeReadOnly();
        return options;
    }

    private static void LeaveOutDerived(JsonTypeInfo type) => LeaveOutDerived(type, index: true);

    private static void LeaveOutDerivedButIndex(JsonTypeInfo type) => LeaveOutDerived(type, index: false);

    /// <summary>Properties without a setter follow from others and are not stored, but for the index where the database reads it.</summary>
    private static void LeaveOutDerived(JsonTypeInfo type, bool index)
    {
        if (type.Kind != JsonTypeInfoKind.Object)
        {
            return;
        }

        for (var i = type.Properties.Count - 1; i >= 0; i--)
        {
            var property = type.Properties[i];
            if (property.Set is null && property.AssociatedParameter is null && (index || property.Name != nameof(IIndexed.Index)))
            {
                type.Properties.RemoveAt(i);
            }
        }
    }
}
